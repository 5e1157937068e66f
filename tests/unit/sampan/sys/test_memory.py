import subprocess
import sys

SCRIPT = """
import hashlib, json, sqlite3
from sampan.sys.memory import drop_clean_pages, trim

def mapped():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssFile"))

before = mapped()
trim()
drop_clean_pages()
assert mapped() < before / 2, (before, mapped())
# Code that was unmapped comes back when it is called, relocated data never went.
assert hashlib.sha256(b"").hexdigest().startswith("e3b0")
assert json.loads("[1]") == [1]
assert sqlite3.connect(":memory:").execute("SELECT 1").fetchone() == (1,)
"""


def test_pages_that_only_start_up_needed_go_and_the_process_works_on() -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
