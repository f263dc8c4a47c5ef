"""How Jittor is started: what it is told, what is fixed and what ends in one clear error.

Jittor itself is replaced by a stub that writes down what it sees; one test at the end starts the real one.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import made_machines as made
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]

JITTOR_UTILS = """
import os
import shutil
from types import SimpleNamespace
cc_type, cc = "none", None
LOG = SimpleNamespace(log_silent=int(os.environ["log_silent"]), log_v=0)
cache_path = os.environ["HOME"]
pool_size = 0
def try_import_jit_utils_core(silent=None): pass
print("chatter of jittor_utils")
"""
JITTOR = """
import os, ssl, sys
from types import SimpleNamespace
import jittor_utils
sys.setrecursionlimit(10**6)
seen, seen_log = dict(os.environ), dict(vars(jittor_utils.LOG))
flags = SimpleNamespace(log_silent=1, cc_type="none", cc_flags="")
ssl._create_default_https_context = ssl._create_unverified_context
print("chatter of jittor")
if os.environ.get("stub_raises"):
    exec(os.environ["stub_raises"])
"""
REPORT = """
import json, os, ssl, sys
{first}
before = dict(os.environ)
try:
    from detr_jittor.jt.setup.runtime import jt, plan
except Exception as error:
    print(json.dumps({{"error": type(error).__name__ + ": " + str(error)}}))
    sys.exit(2)
print(json.dumps({{"seen": jt.seen, "seen_log": jt.seen_log, "same": before == dict(os.environ),
                  "home": str(plan.home), "checks": ssl._create_default_https_context is ssl.create_default_context,
                  "recursion": sys.getrecursionlimit(), "flag": jt.flags.log_silent,
                  "log": vars(sys.modules["jittor_utils"].LOG)}}))
"""


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "a home"  # with a space: Jittor's cache may lie in such a folder
    folder.mkdir()
    return folder


@pytest.fixture
def start(tmp_path, home):
    """Import the runtime in a new process, with stubs for Jittor; (what the stub saw, stderr)."""
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    (stubs / "jittor_utils.py").write_text(JITTOR_UTILS)
    (stubs / "jittor.py").write_text(JITTOR)
    (stubs / "sitecustomize.py").write_text("from detr_jittor.jt.setup import patches\n"
                                            "patches.needed = lambda *versions, **cuda: ()  # a stub needs none\n")

    def run(first: str = "", **variables: str | None):
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": f"{stubs}:{ROOT}",
                       "TMPDIR": str(tmp_path), **variables}
        environment = {name: value for name, value in environment.items() if value is not None}
        run = subprocess.run([sys.executable, "-c", REPORT.format(first=first)], env=environment, cwd=tmp_path,
                             capture_output=True, text=True)
        lines = run.stdout.splitlines()
        assert len(lines) == 1, f"only the report belongs on stdout:\n{run.stdout}\n{run.stderr}"
        return json.loads(lines[0]), run.stderr

    return run


def test_what_jittor_is_told(start, home):
    result, stderr = start(mkl_include_path="/x", mkl_lib_path="/y")
    seen = result["seen"]
    expected = {"cache_name": "default", "use_cutt": "0", "use_cutlass": "0", "use_nccl": "0", "use_mpi": "0",
                "FIX_TORCH_ERROR": "0", "HOME": str(home)}
    assert {name: seen[name] for name in expected} == expected
    assert not {"JITTOR_HOME", "mkl_include_path", "mkl_lib_path"} & seen.keys()
    config = subprocess.run([seen["python_config_path"], "--extension-suffix"], capture_output=True, text=True)
    assert config.stdout.strip() == sysconfig.get_config_var("EXT_SUFFIX")
    assert result["same"], "the environment is put back after the import"
    assert "chatter" in stderr and "compiling Jittor's core" in stderr


def test_what_the_user_has_set_stays(start):
    mine = {"cache_name": "mine", "use_nccl": "1", "nvcc_path": "/my/nvcc", "python_config_path": sys.executable,
            "FIX_TORCH_ERROR": "1"}
    result, _ = start(**mine)
    assert {name: result["seen"][name] for name in mine} == mine


def test_a_cuda_is_put_together_before_jittor_starts(start, tmp_path):
    made.driver(tmp_path / "bin")
    found = made.toolkit(tmp_path / "bin" / "..", "13.0", with_cudnn="9")
    result, stderr = start(PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}", CUDA_VISIBLE_DEVICES=None)
    nvcc = Path(result["seen"]["nvcc_path"])
    assert nvcc.is_relative_to(Path(result["home"]) / ".cache" / "jittor" / "cuda") and os.access(nvcc, os.X_OK), stderr
    assert (nvcc.parents[1] / "lib64" / "libcudnn.so").resolve().parents[1] == Path(found).resolve().parents[1]


def test_no_room_for_it(start, tmp_path, home):
    made.driver(tmp_path / "bin")
    made.toolkit(tmp_path / "bin" / "..", "13.0", with_cudnn="9")
    (home / ".cache" / "jittor").mkdir(parents=True)
    (home / ".cache" / "jittor" / "cuda").touch()
    result, _ = start(PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert "DetrError: CUDA cannot be put together" in result["error"]


def test_under_mpirun_jittor_may_use_mpi(start):
    result, _ = start(OMPI_COMM_WORLD_SIZE="2")
    assert "use_mpi" not in result["seen"]
    assert result["seen"]["mpicc_path"] == str(Path(sys.prefix) / "bin" / "mpicc")


def test_the_log_is_silent_during_the_start_only(start):
    result, _ = start()
    assert result["seen"]["log_silent"] == "1"
    assert result["seen_log"] == {"log_silent": 0, "log_v": -1}
    assert (result["flag"], result["log"]) == (0, {"log_silent": 0, "log_v": 0})


def test_what_jittor_changes_for_the_whole_process_is_put_back(start):
    result, _ = start()
    assert result["checks"] and result["recursion"] == 1000


@pytest.mark.parametrize("place", [".", "cu12.2.140_sm_90"])
def test_a_warm_cache_is_not_announced(start, home, place):
    (home / place).mkdir(exist_ok=True)
    (home / place / "jittor_core.cpython-311-x86_64-linux-gnu.so").touch()
    assert "compiling" not in start()[1]


@pytest.mark.parametrize("statement, message", [
    ("raise SystemExit(0)", "Jittor was updated and has rebuilt itself. Run the same command again."),
    ("raise RuntimeError('long story\\nthe point')", "Jittor does not start: the point Run: detr-jittor doctor"),
    ("assert False", "Jittor does not start: AssertionError() Run: detr-jittor doctor"),
])
def test_a_start_that_fails_is_one_error(start, statement, message):
    result, _ = start(stub_raises=statement)
    assert result == {"error": f"DetrError: {message}"}


def test_two_openmp_pools_are_reported_where_torch_came_first(start, tmp_path):

    gomp = subprocess.run(["g++", "-print-file-name=libgomp.so.1"], capture_output=True, text=True).stdout.strip()
    other = shutil.copy(gomp, tmp_path / "libgomp-torch.so.1")
    torch = "import ctypes, types; sys.modules['torch'] = types.ModuleType('torch'); "
    one, both = f"ctypes.CDLL({gomp!r})", f"ctypes.CDLL({gomp!r}); ctypes.CDLL({str(other)!r})"
    assert start(torch + both)[1].count("torch was imported before jittor") == 1
    assert "torch was imported" not in start(torch + one)[1]
    assert "torch was imported" not in start("import ctypes; " + both)[1]


def test_a_home_that_cannot_be_written_is_replaced(start, home, tmp_path):
    (home / ".cache").write_text("a file where a folder should be")
    result, stderr = start()
    assert result["home"] == result["seen"]["HOME"] == str(tmp_path / f"detr-jittor-{os.getuid()}")
    assert f"Jittor's cache is in {result['home']} instead" in stderr


def test_no_home_at_all(start, tmp_path):
    without = "import pathlib; pathlib.Path.home = classmethod(lambda cls: (_ for _ in ()).throw(RuntimeError()))"
    result, stderr = start(without, HOME=None)
    assert result["home"] == str(tmp_path / f"detr-jittor-{os.getuid()}")
    assert "this user has no home directory" in stderr


def test_jittor_home_is_obeyed_but_not_remembered(start, home, tmp_path):
    result, _ = start(JITTOR_HOME=str(tmp_path / "elsewhere"))
    assert result["seen"]["HOME"] == str(tmp_path / "elsewhere") and "JITTOR_HOME" not in result["seen"]
    assert not (home / ".cache").exists()


def test_the_real_jittor_starts_without_torch_and_finds_onednn():
    code = ("from detr_jittor.jt.setup.runtime import jt, onednn_paths; import sys; "
            "print('torch' in sys.modules, float(jt.ones(3).sum().item()), *onednn_paths(), sep='|')")
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    torch, total, include, library = run.stdout.strip().split("|")
    assert (torch, total) == ("False", "3.0")
    assert (Path(include) / "dnnl.hpp").is_file() and (Path(library) / "libdnnl.so").is_file()


def test_compiling_does_not_run_the_users_script_again(tmp_path):
    """As Python 3.14 begins the processes of a pool, unless it is told otherwise; here on every Python."""
    script = tmp_path / "script.py"
    script.write_text("""
import multiprocessing
import os
multiprocessing.set_start_method("forkserver", force=True)
print("begun")
from detr_jittor.jt.setup.runtime import jt
import jittor_utils
with jittor_utils.Pool(1) as pool:
    print(pool.apply(os.getppid) == os.getpid())
""")
    done = subprocess.run([sys.executable, script], cwd=ROOT, capture_output=True, text=True, timeout=600,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stdout) == (0, "begun\nTrue\n"), done.stderr[-500:]


def test_jittor_does_not_end_the_process_when_a_child_is_killed():
    program = """
import os, signal, subprocess, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
from detr_jittor.jt.setup.runtime import jt
child = subprocess.Popen(["sleep", "60"])
os.kill(child.pid, signal.SIGKILL)
child.wait()
time.sleep(0.2)
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)
except KeyboardInterrupt:
    print("still here", float(jt.ones((3,)).sum().item()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    assert "still here 3.0" in done.stdout, done.stderr[-500:]


@pytest.mark.parametrize("plain", [False, True])
def test_a_signal_to_all_processes_of_a_run_leaves_none_behind(plain):
    """As a terminal sends it: this one goes on, and ends without waiting for those that Jittor has compiled in."""
    program = f"""
import os, signal
from detr_jittor.jt import kernels
kernels.Kernels({plain})
signal.signal(signal.SIGTERM, lambda *_: print("still here"))
os.killpg(0, signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600,
                          start_new_session=True)
    assert (done.returncode, done.stdout) == (0, "still here\n"), done.stderr[-500:]
