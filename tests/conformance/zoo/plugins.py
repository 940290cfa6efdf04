"""Broken plugins, at least one for each check of a plugin's module: real distributions, as an installer leaves them in a folder."""

from __future__ import annotations

import tempfile
from importlib import metadata
from pathlib import Path

from tests.conformance.zoo.pen import Pen

from affidavit.testing.kinds.plugin import PluginCase, PluginSubject

_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
"""Kept until the process ends: the distributions are read whenever a check asks."""


def installed(specimen: type) -> metadata.EntryPoint:
    """The entry point of the specimen's distribution, written into a folder of its own."""
    _FOLDERS.append(tempfile.TemporaryDirectory(prefix="zoo-"))
    site = Path(_FOLDERS[-1].name)
    info = site / "zoo_plugin-1.0.dist-info"
    (site / "zoo_plugin").mkdir()
    info.mkdir()
    requires = "".join(f"Requires-Dist: {line}\n" for line in specimen.requires)
    written = {
        site / "zoo_plugin/__init__.py": "",
        site / "zoo_plugin/plugin.py": specimen.plugin,
        site / "zoo_plugin/models.py": "class Mean:\n    pass\n",
        info / "METADATA": f"Metadata-Version: 2.1\nName: zoo-plugin\nVersion: 1.0\n{requires}",
        info / "entry_points.txt": f"[affidavit.plugins.v1]\nzoo = {specimen.entry}\n",
    }
    for path, text in written.items():
        path.write_text(text)
    names = [str(path.relative_to(site)) for path in [*written, info / "RECORD"]]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in names))
    (distribution,) = metadata.distributions(path=[str(site)])
    (entry,) = distribution.entry_points
    return entry


PEN = Pen(PluginSubject, "zoo", prepare=installed)
caught_by = PEN.caught_by

REGISTERS = """
from affidavit import hookimpl

@hookimpl
def affidavit_register(registry):
    registry.add("model", "zoo.mean", "zoo_plugin.models:Mean")
"""


@PEN.passes
class Sound:
    """Registers one model type, and does nothing else."""

    plugin = REGISTERS
    entry = "zoo_plugin.plugin"
    requires = ("affidavit>=0.1",)


@PEN.passes
class HoldsItsHooksInAnObject(Sound):
    plugin = (
        "class Plugin:\n    from affidavit import hookimpl\n    @hookimpl\n    def affidavit_register(self, registry): pass\n\nplugin = Plugin()\n"
    )
    entry = "zoo_plugin.plugin:plugin"


@caught_by("importing_and_registering_come_to_an_end")
class Raises(Sound):
    plugin = "raise RuntimeError('no licence found')"


@caught_by("importing_and_registering_come_to_an_end", case=PluginCase(seconds=1))
class Hangs(Sound):
    plugin = "while True:\n    pass\n"


@caught_by("importing_and_registering_come_to_an_end", case=PluginCase(seconds=1))
class HangsWhenAsked(Sound):
    plugin = REGISTERS + "    import threading\n    threading.Event().wait()\n"


@caught_by("importing_and_registering_come_to_an_end")
class EndsTheProcess(Sound):
    plugin = "import os\nos._exit(0)\n"


@caught_by("importing_and_registering_come_to_an_end")
class AsksToEndTheProcess(Sound):
    plugin = "raise SystemExit('no licence found')"


@caught_by("importing_and_registering_come_to_an_end")
class Crashes(Sound):
    plugin = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"


@caught_by("importing_and_registering_come_to_an_end")
class RegistersNoKind(Sound):
    plugin = REGISTERS + "    registry.add('modle', 'zoo.other', 'zoo_plugin.models:Mean')\n"


@caught_by("importing_and_registering_come_to_an_end")
class RegistersOneNameTwice(Sound):
    plugin = REGISTERS + "    registry.add('model', 'zoo.mean', 'zoo_plugin.models:Other')\n"


@caught_by("importing_and_registering_come_to_an_end")
class WantsAnArgumentThatNoHookHas(Sound):
    plugin = "from affidavit import hookimpl\n@hookimpl\ndef affidavit_register(registry, settings): pass\n"


@caught_by("its_hooks_are_allowed")
class StandsInTheCoresPlace(Sound):
    plugin = REGISTERS + "\n@hookimpl\ndef affidavit_train(call):\n    return None\n"


@caught_by("its_hooks_are_allowed")
class StandsOutsideGovernance(Sound):
    plugin = REGISTERS + "\n@hookimpl(wrapper=True, tryfirst=True)\ndef affidavit_train(call):\n    return (yield)\n"


@caught_by("its_hooks_are_allowed")
class RunsLater(Sound):
    plugin = REGISTERS + "\n@hookimpl\nasync def affidavit_train(call):\n    return None\n"


@caught_by("importing_it_is_light")
class ImportsALibrary(Sound):
    plugin = "import matplotlib" + REGISTERS


@caught_by("importing_it_changes_nothing_of_the_sdk")
class ReplacesAMethod(Sound):
    plugin = "from affidavit.workspace import Workspace\nWorkspace.train = lambda self, *a, **k: None" + REGISTERS


@caught_by("importing_it_changes_nothing_of_the_sdk")
class WidensATable(Sound):
    plugin = "import affidavit.plugins\naffidavit.plugins.LIFECYCLE = ()" + REGISTERS


STATE = {
    "SeedsEverybody": "import random\nrandom.seed(0)",
    "SeedsNumPy": "import numpy\nnumpy.random.seed(0)",
    "SetsTheEnvironment": "import os\nos.environ['OMP_NUM_THREADS'] = '77'",
    "MovesTheWorkingFolder": "import os\nos.chdir('/')",
    "PutsAFolderOnThePath": "import sys\nsys.path.insert(0, '/zoo')",
    "SilencesWarnings": "import warnings\nwarnings.simplefilter('ignore')",
    "ConfiguresLogging": "import logging\nlogging.basicConfig()",
    "CatchesSignals": "import signal\nsignal.signal(signal.SIGTERM, lambda *_: None)",
    "CatchesExceptions": "import sys\nsys.excepthook = lambda *_: None",
    "SetsTheLocale": "import locale\nlocale.setlocale(locale.LC_ALL, 'C' if locale.setlocale(locale.LC_ALL) != 'C' else 'C.UTF-8')",
    "ReplacesABuiltIn": "import builtins\nplain = builtins.open\nbuiltins.open = lambda *a, **k: plain(*a, **k)",
    "ReplacesAStream": "import io, sys\nsys.stdout = io.StringIO()",
    "LeavesAThread": "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()",
    "SetsATimeoutForAll": "import socket\nsocket.setdefaulttimeout(1)",
}
for name, code in STATE.items():
    caught_by("importing_it_leaves_the_process_alone")(type(name, (Sound,), {"plugin": code + REGISTERS}))

REACH = {
    "Calls": "import socket\ntry:\n    socket.create_connection(('127.0.0.1', 9), 0.2)\nexcept OSError:\n    pass",
    "LooksUpAName": "import socket\ntry:\n    socket.getaddrinfo('localhost', 80)\nexcept OSError:\n    pass",
    "StartsAProcess": "import subprocess\nsubprocess.run(['true'], check=True)",
    "Forks": "import os\npid = os.fork()\nif pid:\n    os.waitpid(pid, 0)",
    "WritesAFile": "open('zoo-was-here.txt', 'w').close()",
    "RemovesAFile": "import os\ntry:\n    os.remove('zoo-was-here.txt')\nexcept FileNotFoundError:\n    pass",
}
for name, code in REACH.items():
    caught_by("importing_it_stays_within_the_process")(type(name, (Sound,), {"plugin": code + REGISTERS}))


@caught_by("importing_it_prints_nothing")
class Greets(Sound):
    plugin = "print('Welcome to the zoo!')" + REGISTERS


@caught_by("importing_it_prints_nothing")
class PrintsPastPython(Sound):
    plugin = "import os\nos.write(2, b'{]')" + REGISTERS


@caught_by("registering_twice_gives_the_same")
class RegistersOnce(Sound):
    plugin = "done = []\n" + REGISTERS.replace("    registry", "    done or registry") + "    done.append(1)\n"


@caught_by("registering_twice_gives_the_same")
class CountsItsNames(Sound):
    plugin = "import itertools\nnumber = itertools.count()\n" + REGISTERS.replace('"zoo.mean"', 'f"zoo.mean{next(number)}"')


@caught_by("its_code_is_its_own")
class RegistersSomebodyElses(Sound):
    plugin = REGISTERS.replace("zoo_plugin.models:Mean", "pyarrow:Table")


@caught_by("its_code_is_its_own")
class RegistersWhatIsNotThere(Sound):
    plugin = REGISTERS.replace("zoo_plugin.models", "zoo_plugin.modles")


@caught_by("its_code_is_its_own")
class RegistersThePythonsOwn(Sound):
    plugin = REGISTERS.replace("zoo_plugin.models:Mean", "builtins:eval")


@caught_by("its_code_is_its_own")
class PassesABundledPluginOff(Sound):
    entry = "affidavit_plugins.sources.plugin"


@caught_by("it_says_which_sdk_it_needs")
class RequiresNothing(Sound):
    requires = ()


@caught_by("it_says_which_sdk_it_needs")
class RequiresAnyVersion(Sound):
    requires = ("affidavit", "numpy>=1")


@caught_by("it_says_which_sdk_it_needs")
class RequiresOldVersionsOnly(Sound):
    requires = ("affidavit<9",)


@caught_by("importing_it_is_quick")
class TakesItsTime(Sound):
    plugin = "import time\ntime.sleep(0.6)" + REGISTERS


@caught_by("registering_uses_nothing_deprecated")
class UsesWhatGoesAway(Sound):
    """Stands for one that calls a function of the SDK that is deprecated: it declares one itself."""

    plugin = (
        "from affidavit.deprecation import deprecated\n"
        "@deprecated('affidavit.old', since='0.1', removal='9.0', instead='use affidavit.new')\ndef old(): pass\nold()" + REGISTERS
    )
