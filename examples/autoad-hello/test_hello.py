from autoad_core.testing import HypothesisContract
from autoad_hello_shell import Shell


class TestShell(HypothesisContract):
    make = staticmethod(Shell)
