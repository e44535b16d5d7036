"""A page that trains, and waits to be killed: ``page_that_trains.py DATA OPTION...``; prints when there is a loss."""

import asyncio
import sys
from pathlib import Path

from weakseg_lightning.painting.learning.training import TrainingRun


async def serve() -> None:
    data = Path(sys.argv[1])
    run = TrainingRun(data, data.parent, None, sys.argv[2:])
    await run.start()
    while run.state.step == 0:
        await asyncio.sleep(0.05)
    print(run.state.step, flush=True)
    await asyncio.sleep(1000)


asyncio.run(serve())
