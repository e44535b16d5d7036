"""The learner's process: told what is drawn, killed, started again, and ended with its page."""

import asyncio
import os
import signal
from pathlib import Path

import numpy as np
from photographs import NAMES
from processes import kill, start, wait_for_text

from weakseg_lightning.painting.learning.client import Learning, LearningSettings

CAT, DOG = NAMES[0], NAMES[1]
PATIENCE = 120
PROGRAM = """
import asyncio, sys
from pathlib import Path
from weakseg_lightning.painting.learning.client import Learning, LearningSettings

async def main():
    learning = Learning(LearningSettings(encoder_weights=None), {}, 3)
    learning.watchers.append(lambda _: print(learning.state.phase, learning.pid, flush=True))
    await learning.run()

if __name__ == "__main__":
    asyncio.run(main())
"""


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


def test_strokes_give_scores_and_a_killed_learner_is_told_everything_again(photographs, tmp_path):
    async def page():
        learning = Learning(photographs.settings, {name: photographs.images[name] for name in NAMES[:3]}, 3)
        told = []
        learning.watchers.append(told.append)
        running = asyncio.create_task(learning.run())
        learning.show([DOG, CAT])
        for version, name in enumerate((CAT, DOG)):
            learning.annotate(name, version, photographs.annotation(name))
        await until(lambda: learning.scores(DOG) is not None and learning.scores(CAT) is not None)
        assert (learning.scores(DOG).version, learning.scores(DOG).values.shape[0]) == (1, 3)
        await until(lambda: learning.state.order == (NAMES[2],))
        state, settled = learning.state, learning.scores(DOG).values
        assert (state.phase, state.cached, state.total, state.learned, state.source) == ("ready", 3, 3, 2, "head")
        assert {None, CAT, DOG} == set(told)

        learning.use_network(tmp_path / "missing.ckpt")
        assert learning.scores(DOG) is None
        await until(lambda: learning.state.source == "head" and learning.scores(DOG) is not None)
        assert "missing.ckpt" in learning.state.text
        assert "\n" not in learning.state.text

        before = learning.pid
        os.kill(before, signal.SIGKILL)
        await until(lambda: learning.state.phase == "starting")
        assert learning.scores(DOG) is not None  # what there was is shown meanwhile
        told.clear()
        await until(lambda: learning.state.phase == "ready" and np.array_equal(learning.scores(DOG).values, settled))
        await until(lambda: DOG in told)
        assert learning.pid != before
        learning.show([CAT])
        assert learning.scores(DOG) is None
        learning.close()
        await asyncio.wait_for(running, PATIENCE)
        assert (learning.state.phase, learning.pid) == ("off", None)

    asyncio.run(page())


def test_weights_that_are_not_there_turn_it_off_with_one_line(photographs):
    async def page():
        learning = Learning(LearningSettings(encoder_weights="nowhere/lite0.safetensors"), photographs.images, 3)
        await asyncio.wait_for(learning.run(), PATIENCE)
        return learning.state

    state = asyncio.run(page())
    assert state.phase == "off"
    assert "no file 'nowhere/lite0.safetensors'" in state.text
    assert "--encoder_weights FILE" in state.text
    assert "\n" not in state.text


def test_a_learner_that_dies_again_and_again_stays_off():
    async def page():
        learning = Learning(LearningSettings(encoder_weights=None), {}, 3)
        running, killed = asyncio.create_task(learning.run()), set()
        async with asyncio.timeout(PATIENCE):
            while not running.done():
                if learning.pid is not None and learning.pid not in killed:
                    killed.add(learning.pid)
                    os.kill(learning.pid, signal.SIGKILL)
                await asyncio.sleep(0.01)
        return killed, learning.state

    killed, state = asyncio.run(page())
    assert len(killed) == 3
    assert (state.phase, state.text) == ("off", "learning is off: its process ended 3 times in a row")


def test_the_learner_ends_when_its_page_is_killed(tmp_path):
    program = tmp_path / "page.py"
    program.write_text(PROGRAM)
    printed = tmp_path / "printed"
    page = start(program, out=printed)
    wait_for_text(printed, "\n", [page])
    phase, learner = printed.read_text().splitlines()[0].split()
    assert phase == "ready"
    kill([page])

    async def gone():
        await until(lambda: not is_alive(int(learner)))

    asyncio.run(gone())


def is_alive(process: int) -> bool:
    """True while a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
