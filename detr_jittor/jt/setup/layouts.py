"""What an operator has to know of Jittor's classes: some members, each at its place.

An operator reads a few pointers and shapes out of Jittor's objects, and then computes. Jittor compiles each as a
program of its own that reads all of its headers, and GCC instantiates their templates for each anew; with both it
spends ten times as long as with the operator itself. Here an operator gets a header with these members alone, in the
places that GCC gives them in Jittor's own classes. It comes out as the same code.

Not every operator is content with that: one that does not compile so is compiled with Jittor's headers.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from detr_jittor.jt.setup.kept import compiling, keep_compiled, reason, run

# Of each class the members that operators use, as they are declared here: a vector begins with the address of its first
# element, and whatever is allocated, with that of its data.
ITEM = {"ns": "NanoString ns", "_inputs": "list<Input> _inputs", "_outputs": "list<Output> _outputs",
        "vs": "VarSlices vs", "o_shape": "NanoVector o_shape"}
MEMBERS = {
    "Var": {"shape": "NanoVector shape", "mem_ptr": "void* mem_ptr", "allocator": "void* allocator",
            "allocation": "size_t allocation", "size": "int64 size", "num": "int64 num"},
    "BinaryOp": {"x": "Var* x", "y": "Var* y", "z": "Var* z"},
    "UnaryOp": {"x": "Var* x", "y": "Var* y"},
    "ReduceOp": {"x": "Var* x", "y": "Var* y"},
    "BroadcastToOp": {"x": "Var* x", "z": "Var* z"},
    "TernaryOp": {"cond": "Var* cond", "x": "Var* x", "y": "Var* y", "z": "Var* z"},
    "ReindexOp": {"x": "Var* x", "y": "Var* y", "extras": "Var** extras"},
    "ReindexReduceOp": {"x": "Var* x", "y": "Var* y", "extras": "Var** extras"},
    "FuseTransposeOp": {"x": "Var* x", "y": "Var* y"},
    "TransposeOp": {"x": "Var* x", "y": "Var* y"},
    "ArgReduceOp": {"x": "Var* x", "y": "Var* y", "y_key": "Var* y_key"},
    "CodeOp": {"_inputs": "Var** _inputs", "_outputs": "Var** _outputs"},
    "ArrayOp": {"output": "Var* output", "allocation.ptr": "void* data"},
    "FusedOp": {"ops": "Op** ops"},
    "GetitemOp": ITEM,
    "SetitemOp": ITEM,
}
SIZES = {"NanoVector": 16, "NanoString": 4, "VarSlices": 16, "list<Input>": 24, "list<Output>": 24}  # others: 8 bytes
HEADERS = ("var.h", "fused_op.h", "executor.h", "misc/cpu_math.h", "misc/cuda_flags.h", "ops/op_register.h",
           *(f"ops/{name}_op.h" for name in ("arg_reduce", "array", "binary", "broadcast_to", "code", "fuse_transpose",
                                             "getitem", "reduce", "reindex", "reindex_reduce", "setitem", "ternary",
                                             "transpose", "unary")))
ENDS = "Front<Input> inputs() { return {_inputs}; } Front<Output> outputs() { return {_outputs}; } void jit_run(); "
METHODS = {
    **dict.fromkeys(("FusedOp", "TransposeOp", "ArgReduceOp", "CodeOp"), "void jit_run();"),
    "Var": "template<class T> T* ptr() { return (T*)mem_ptr; }",
    "ArrayOp": "template<class T> T* ptr() { return (T*)data; }",
    "GetitemOp": ENDS + "static constexpr int _inplace = 0;",
    "SetitemOp": ENDS + "Var* input(int i) { return std::next(_inputs.begin(), i)->node; }",
}
# A shape holds its sizes in as few bits as each needs; `offset` has the number of sizes in four bits and then, in six
# for each, where it ends.
BEGINNING = """\
#define JIT 1
#define JIT_cpu 1
#include <cmath>
#include <cstring>
#include <algorithm>
#include <limits>
#include <list>
#include <assert.h>
#include <stdint.h>
namespace jittor {
using std::list;
typedef int8_t int8; typedef int16_t int16; typedef int32_t int32; typedef int64_t int64;
typedef uint8_t uint8; typedef uint16_t uint16; typedef uint32_t uint32; typedef uint64_t uint64;
typedef float float32; typedef double float64;
struct Op;
struct Var;
struct NanoVector {
    int64 data, offset;
    int end(int i) const { return (offset >> (4 + i * 6)) & 63; }
    int64 operator[](int i) const {
        int first = i ? end(i - 1) : 0;
        int last = end(i);
        int bits = last - first;
        return (data << ((64 - last) & 63)) >> ((64 - bits) & 63);
    }
};
struct NanoString { uint32 data; uint32 get(int bit) const { return data >> bit & 1; } };
struct Output;
struct Input { Var* node; list<Output>::iterator back; };
struct Output { Var* node; list<Input>::iterator back; int index; };
template<class End> struct Front { list<End>& ends; Var* front() { return ends.front().node; } };
struct Slice { int64 start, stop, step, mask; };
union VarSlice { Slice slice; Var* var; int64 i; };
struct VarSlices { VarSlice* slices; int n; };
"""
TAKEN_FOR_GRANTED = """\
static_assert(sizeof(NanoVector) == 16 && offsetof(NanoVector, data) == 0 && offsetof(NanoVector, offset) == 8 &&
              NanoVector::size_nbits == 4 && NanoVector::offset_nbits == 6, "shapes");
static_assert(sizeof(NanoString) == 4 && GetitemOp::_inplace == 0, "types");
static_assert(sizeof(VarSlice) == 32 && sizeof(VarSlices) == 16 && offsetof(VarSlices, slices) == 0 &&
              offsetof(Slice, start) == 0 && offsetof(Slice, stop) == 8 && offsetof(Slice, step) == 16, "slices");
static_assert(sizeof(Node::input_t) == 16 && offsetof(Node::input_t, node) == 0 && sizeof(list<Node::input_t>) == 24 &&
              sizeof(Node::output_t) == 24 && offsetof(Node::output_t, node) == 0, "ends");
static_assert(offsetof(vector<Op*>, _M_impl._M_start) == 0, "vectors");
"""


def folder(jt) -> Path:
    """Where the header for `jt`'s operators is, as `layouts.h`, with empty ones in place of Jittor's."""
    return Path(jt.flags.cache_path) / f"detr_layouts_{key(jt)}"


def write_layouts(jt) -> str:
    """Make the folder where it is missing.

    Returns: why this is not possible, "" if it is.
    """
    if jt.flags.cc_type != "g++" or (place := folder(jt)).is_dir():
        return ""
    part = place.with_name(f"{place.name}.{os.getpid()}.part")  # another process may be at the same
    compiler = [jt.flags.cc_path, *compiling(jt.flags.cc_flags)]
    try:
        for header in HEADERS:
            (part / header).parent.mkdir(parents=True, exist_ok=True)
            (part / header).touch()
        (part / "layouts.h").write_text(text(places(compiler, part / "places.so")))
        keep_compiled(part / "layouts.h", jt.flags.cc_path, jt.flags.cc_flags)
        for old in {*place.parent.glob("detr_layouts_????????????")} - {place}:
            shutil.rmtree(old, ignore_errors=True)
        part.rename(place)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        if not place.is_dir():
            return reason(error)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return ""


def key(jt) -> str:
    """Changes with the flags, with Jittor's headers, and with what is asked of them."""
    files = sorted(Path(jt.flags.jittor_path, "src").rglob("*.h"))
    stats = [(str(f), s.st_size, s.st_mtime_ns) for f in files for s in [f.stat()]]
    ours = Path(__file__).read_bytes()
    return hashlib.sha256(repr((ours, compiling(jt.flags.cc_flags), stats)).encode()).hexdigest()[:12]


def places(compiler: list[str], library: Path) -> dict[tuple[str, str], int]:
    """{(class, member): its place in bytes} in Jittor's own headers, as the compiler lays them out.

    Args: library: a file that may be written for it.
    """
    names = [(name, member) for name, members in MEMBERS.items() for member in members]
    asked = ", ".join(f"offsetof({name}, {member})" for name, member in names)
    source = [f"#include <{header}>" for header in HEADERS]
    source += ["using namespace jittor;", TAKEN_FOR_GRANTED, f'extern "C" const long places[] = {{{asked}}};', ""]
    run([*compiler, "-fno-access-control", "-Wno-invalid-offsetof", "-shared", "-x", "c++", "-", "-o", str(library)],
        "\n".join(source))
    found = list((ctypes.c_long * len(names)).in_dll(ctypes.CDLL(str(library)), "places"))
    library.unlink()
    return dict(zip(names, found))


def text(place: dict[tuple[str, str], int]) -> str:
    return BEGINNING + "".join(layout(name, [(place[name, member], declaration) for member, declaration
                                             in members.items()]) for name, members in MEMBERS.items()) + "}\n"


def layout(name: str, members: list[tuple[int, str]]) -> str:
    """A class with these members at these places. Errors: ValueError if one lies in another."""
    lines, end = [], 0
    for place, declaration in sorted(members):
        kind, _, member = declaration.rpartition(" ")
        if place < end:
            raise ValueError(f"{name}.{member} lies in what is before it")
        if place > end:
            lines.append(f"    char before_{member}[{place - end}];")
        lines.append(f"    {declaration};")
        end = place + SIZES.get(kind, 8)
    return "\n".join([f"struct {name} {{", *lines, f"    {METHODS.get(name, '')}", "};", ""])
