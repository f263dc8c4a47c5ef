"""Jittor 1.3.11 with a few of its sources patched, in a folder of our own.

The folder holds a link to each file of the installed packages, and a copy of those that a patch changes; Jittor is then
imported from there. Nothing that is installed changes, and the folder is never changed either: its name is made of the
patches and of where Jittor is installed. What Jittor compiles goes by that name too, so a patched and an unpatched
Jittor never share an object.
"""

import contextlib
import hashlib
import importlib.machinery
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

from detr_jittor.errors import DetrError
from detr_jittor.jt.setup.folders import appearing

PACKAGES = ("jittor", "jittor_utils")
INSTALL = "Run: pip install --no-deps jittor==1.3.11.0"  # it would ask for NumPy 1, which newer Pythons do not have


@dataclass(frozen=True)
class Patch:
    """What changes in one file, and which state of the file that was written for."""

    file: str  # from the folder of the installed packages
    digest: str  # SHA-256 of the original
    changes: tuple[tuple[str, str], ...]  # (a text that stands in it exactly once, what takes its place)


# https://numpy.org/doc/stable/numpy_2_0_migration_guide.html#c-api-changes; numpy/_core/include/numpy/ndarraytypes.h
NUMPY_2 = (
    Patch("jittor/src/pyjt/numpy.h", "2d2d09539972b6a056aa6910b654f115704c777f1f923819f855f30376d19556", (
        # the head of PyArray_Descr; what follows has moved too, but Jittor reads none of it
        ("    char flags;\n    int type_num;\n    int elsize;\n    int alignment;\n",
         "    char former_flags;\n    int type_num;\n    uint64 flags;\n    Py_ssize_t elsize;\n"
         "    Py_ssize_t alignment;\n"),
        ("EXTERN_LIB void (*PyArray_CastScalarToCtype)",
         "EXTERN_LIB PyArrayDescr_Proxy* (*PyArray_DescrFromType)(int);\n"
         "EXTERN_LIB void (*PyArray_CastScalarToCtype)"),
    )),
    Patch("jittor/src/pyjt/numpy.cc", "1bdec1b2c8e2599775116982634e7a6f0530479cdc64cb4d1bb1032d359c386e", (
        ('"numpy.core.multiarray"', '"numpy._core.multiarray"'),
        ("fill(PyArray_CopyInto, 82);", "fill(PyArray_CopyInto, 50);\n    fill(PyArray_DescrFromType, 45);"),
        ("void (*PyArray_CastScalarToCtype)",
         "PyArrayDescr_Proxy* (*PyArray_DescrFromType)(int);\nvoid (*PyArray_CastScalarToCtype)"),
    )),
    Patch("jittor/src/pyjt/py_converter.h", "188a8301c4cb2da46a4ffd36e49e23e3c5826a9f0de40bccacb34e8888262607", (
        # an index that is a NumPy scalar: NumPy 2 asks a dtype for its class, and this one has only a number
        ("        PyArrayDescr_Proxy array_descr;\n        array_descr.type_num = 5; // 5: int32\n",
         "        PyObjHolder int32_descr((PyObject*)PyArray_DescrFromType(5)); // 5: int32\n"),
        ("PyArray_CastScalarToCtype(obj, &value, &array_descr);",
         "PyArray_CastScalarToCtype(obj, &value, (PyArrayDescr_Proxy*)int32_descr.obj);"),
    )),
)

# https://gcc.gnu.org/gcc-15/porting_to.html: its headers no longer bring <cstdint> along, and a template is checked
# where it stands, also if nobody uses it
GCC_15 = (
    Patch("jittor/src/types.h", "67dba6078a15cc6736b09e8bdce0b9420b860bb1bfc828f3b3485295811caf1c", (
        ("#include <memory>\n", "#include <cstdint>\n#include <memory>\n"),
    )),
    Patch("jittor/src/misc/stack_vector.h", "35a98e998c53bc8d871c3b3fa601826e33f7a218db71e1b0191f2de15fee395a", (
        ("self->at(index)", "self->a[index]"),
    )),
)

# On a card Jittor leaves a transpose that moves the last axis to cuTT, whose source it would download. Without it the
# numbers go to the processor and back, where one thread copies them; each attention has such a one, and its gradient
# more. Jittor's operator for all other transposes runs on a card, and serves for these as well.
ANY_CUDA = (
    Patch("jittor/src/ops/transpose_op.cc", "baf81a3a12da245feab4acaf67904a4b3f73393758528496c58e249994d02067", (
        ("    if (axes.size() < xdim || ",
         "    if ((use_cuda && !has_op(\"cutt_transpose\")) || axes.size() < xdim || "),
    )),
)

# https://docs.nvidia.com/cuda/archive/13.0.0/cuda-toolkit-release-notes: what cudaDeviceProp has no more, and what its
# CCCL 3 asks for and has no more (https://nvidia.github.io/cccl/cccl/3.0_migration_guide.html)
CUDA_13 = (
    Patch("jittor/compiler.py", "3398b120fb43014db85d0beaccfc9775088956e46cec0b16cf62cd8581dd6898", (
        ('nvcc_flags = nvcc_flags.replace("-Wall", "")',
         'nvcc_flags = nvcc_flags.replace("-Wall", "").replace("-std=c++14", "-std=c++17")'),
        # what is compiled for generation 9 does not run on later cards
        ("max_arch = 90", "max_arch = 121"),
    )),
    Patch("jittor/extern/cuda/inc/helper_cuda.h", "5faa2b18470a970658cfc0b70504f98aa6fb85695b2a116408895ad11edc57da", (
        ("// General GPU Device CUDA Initialization\n",
         "inline int gpuAttribute(cudaDeviceAttr attribute, int device) {\n  int value = 0;\n"
         "  checkCudaErrors(cudaDeviceGetAttribute(&value, attribute, device));\n  return value;\n}\n\n"
         "// General GPU Device CUDA Initialization\n"),
        ("if (deviceProp.computeMode == ", "if (gpuAttribute(cudaDevAttrComputeMode, devID) == "),
        ("if (deviceProp.computeMode != ", "if (gpuAttribute(cudaDevAttrComputeMode, current_device) != "),
        ("deviceProp.clockRate", "gpuAttribute(cudaDevAttrClockRate, current_device)"),
        ("        (deviceProp.computeMode != ", "        (gpuAttribute(cudaDevAttrComputeMode, current_device) != "),
    )),
    Patch("jittor/other/code_softmax.py", "d4d533239f569cbbc5586c7b72257bc59ad0359ca12f110710a5470fcb90cc40", (
        ("cub::Max()", "::cuda::maximum<>()"),
    )),
    Patch("jittor/extern/cuda/cub/ops/cub_where_op.cc",
          "b54b158ccab3204384b54728ed585f0a8c81e2575a23e867889acce5a98d7fe9", (
        ("#include <thrust/transform.h>",
         "#include <thrust/transform.h>\n#include <thrust/iterator/counting_iterator.h>\n"
         "#include <thrust/iterator/transform_iterator.h>"),
        ("cub::CountingInputIterator<To> counting_itr(0);", "thrust::counting_iterator<To> counting_itr(0);"),
        ("cub::TransformInputIterator<bool, NonZeroOp<Ti>, Ti*> itr(cond->ptr<Ti>(), NonZeroOp<Ti>());",
         "auto itr = thrust::make_transform_iterator(cond->ptr<Ti>(), NonZeroOp<Ti>());"),
    )),
)

# cuDNN takes float32 for TF32, with three digits, unless it is told not to.
EXACT = (("    // using tensor core\n",
          "    checkCudaErrors(cudnnSetConvolutionMathType(cudnnConvDesc, CUDNN_FMA_MATH));\n"
          "    // using tensor core\n"),)
# cuDNN 9 has its libraries under other names, and its recurrent networks, which DETR has none of, through other calls.
# cuFFT and cuSPARSE serve operators that DETR has none of either, and of NPP the least and greatest integers are used:
# they would be more wheels to bring.
CUDNN_9 = (
    Patch("jittor/src/misc/cuda_limits.h", "bd143b0920689412d0e6409e9eb6dfc50e16092bb9faa8a8684ace1d40645504", (
        ("#include <npp.h>\n#include <math_constants.h>\n#else\n", "#include <math_constants.h>\n#endif\n"),
        ("#define     CUDART_INF_F", "#ifndef IS_CUDA\n#define     CUDART_INF_F"),
    )),
    Patch("jittor/extern/cuda/cudnn/ops/cudnn_conv_op.cc",
          "3696b717163b5e33ca34b8ecd30eef44304ed7282acca6b3a6ed8b4e36b620c1", EXACT),
    Patch("jittor/extern/cuda/cudnn/ops/cudnn_conv_backward_x_op.cc",
          "68af1f0e4ae17af352fe596ee1a292425476e6e55c30ba8a28b87bf0109e8687", EXACT),
    Patch("jittor/extern/cuda/cudnn/ops/cudnn_conv_backward_w_op.cc",
          "8dad2492b19e87215e8e2c08117d6c28d8233512a7a509e90434341dec3c217a", EXACT),
    Patch("jittor/compiler.py", "3398b120fb43014db85d0beaccfc9775088956e46cec0b16cf62cd8581dd6898", (
        # of an operator's source and header it makes one place, and a patched source lies beside a link
        ("        name = os.path.realpath(name)", "        name = os.path.abspath(name)"),
        # PyTorch's kernels are compiled without it, and their digits are the measure
        (r'-ccbin=\"{cc_path}\" --use_fast_math "', r'-ccbin=\"{cc_path}\" "'),
    )),
    Patch("jittor/compile_extern.py", "d1d02ba4314b3390f70a91d3347267920cb77999b1241d01849c85fbcaa7d56c", (
        ('libs = ["libcudnn_ops_infer.so", "libcudnn_ops_train.so", "libcudnn_cnn_infer.so", '
         '"libcudnn_cnn_train.so"]',
         'libs = ["libcudnn_graph.so", "libcudnn_ops.so", "libcudnn_cnn.so"]'),
        ('libs = ["cublas", "cudnn", "curand", "cufft", "cusparse"]', 'libs = ["cublas", "cudnn", "curand"]'),
        ("    # compile and get operators\n    culib = compile_custom_ops(culib_src_files, return_module=True,\n"
         '        extra_flags=f" -I\\"{jt_cuda_include}\\" -I\\"{jt_culib_include}\\" {link_flags} ',
         '    culib_src_files = [f for f in culib_src_files if "cudnn_rnn_" not in f]\n'
         "    # compile and get operators\n    culib = compile_custom_ops(culib_src_files, return_module=True,\n"
         '        extra_flags=f" -I\\"{jt_cuda_include}\\" -I\\"{jt_culib_include}\\" {link_flags} '),
    )),
)

# What every patched Jittor has, so that it may lie in our folder and run on the newest Python.
ALWAYS = (
    Patch("jittor/compiler.py", "3398b120fb43014db85d0beaccfc9775088956e46cec0b16cf62cd8581dd6898", (
        # https://peps.python.org/pep-0667/: what exec() defines in a function is no longer found in locals()
        ("mod = locals()[gen_name]", "mod = sys.modules[gen_name]"),
    )),
    Patch("jittor_utils/__init__.py", "d05495d9890cd83f3a83035fff7d9296155c53495d5ddf40fff3b1429896c91c", (
        ("mod = locals()[hash]", "mod = sys.modules[hash]"),
        # the name of its cache: of the patches, not of the home directory that they lie in
        ("jittor_path_key = get_str_hash(__file__)[:4]", "jittor_path_key = __file__.split(os.sep)[-3]"),
    )),
)


def needed(numpy_version: str, compiler: str, python: tuple[int, ...] = tuple(sys.version_info), cuda: str = "",
           cudnn: str = "") -> tuple[Patch, ...]:
    """The patches that Jittor needs with this NumPy, C++ compiler and Python, and the CUDA and cuDNN that it is to use;
    () where it may stay as it is installed. A version that is "" needs none."""
    needs = [patches for version, first, patches in
             ((numpy_version, 2, NUMPY_2), (compiler, 15, GCC_15), (cuda, 1, ANY_CUDA), (cuda, 13, CUDA_13),
              (cudnn, 9, CUDNN_9))
             if version and int(version.split(".")[0]) >= first]
    return sum(needs, ALWAYS) if needs or python >= (3, 13) else ()


def patched(patches: tuple[Patch, ...], installed: Path) -> dict[str, str]:
    """Each file that changes, with its text after all changes; `installed` is the folder that holds Jittor's packages.

    Errors: DetrError if a file is not the one that the patch was written for.
    """
    texts = {}
    for patch in patches:
        path = installed / patch.file
        data = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(data).hexdigest() != patch.digest:
            raise DetrError(f"{path} is not the file of Jittor 1.3.11.0, and only for that one is there a patch.",
                            "Run: pip install --force-reinstall --no-deps jittor==1.3.11.0")
        text = texts.setdefault(patch.file, data.decode())
        for old, new in patch.changes:
            assert text.count(old) == 1, (patch.file, old)
            text = text.replace(old, new)
        texts[patch.file] = text
    return texts


def installed_folder() -> Path:
    """The folder that holds Jittor's packages, also when a patched Jittor is already imported.

    Errors: DetrError if Jittor is not installed.
    """
    spec = importlib.machinery.PathFinder.find_spec("jittor_utils")
    if spec is None or spec.origin is None:
        raise DetrError("Jittor is not installed.", INSTALL)
    return Path(spec.origin).parents[1]


def folder(home: Path, patches: tuple[Patch, ...]) -> Path:
    """Where the patched Jittor lies if Jittor's home is `home`."""
    key = hashlib.sha256(repr((str(installed_folder()), patches)).encode()).hexdigest()[:12]
    return home / ".cache" / "jittor" / "patched" / key


def place(home: Path, patches: tuple[Patch, ...]) -> Path:
    """Make the folder unless it is there, and return it. Safe when several processes start at once.

    Errors: DetrError if Jittor is another one than the patches are for; OSError if the disk is full.
    """
    installed, target = installed_folder(), folder(home, patches)
    texts = patched(patches, installed)
    if not target.is_dir():
        with appearing(target) as new:
            for package in PACKAGES:
                link(installed / package, new / package)
            for file, text in texts.items():
                (new / file).unlink()
                (new / file).write_text(text)
    return target


@contextlib.contextmanager
def in_front(place: Path | None):
    """Import from the folder `place` first, for a while; None: as ever. What pip does when it installs is done then:
    Python compiles the files, without a word on their escape sequences."""
    added = [str(place)] if place else []
    sys.path[:0] = added
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            yield
    finally:
        for path in added:
            sys.path.remove(path)


def link(source: Path, target: Path) -> None:
    """Links to the files, not to the folders: a file then finds its neighbours in the folder of the links. What Python
    compiled stays behind, since it would keep the places of the originals."""
    target.mkdir(parents=True)
    for entry in os.scandir(source):
        if entry.is_dir():
            if entry.name != "__pycache__":
                link(Path(entry.path), target / entry.name)
        else:
            os.symlink(entry.path, target / entry.name)
