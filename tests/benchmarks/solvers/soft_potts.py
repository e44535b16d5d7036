"""Time soft labelings of a batch of photographs against the forward pass that they follow, and against Adam on logits.

From the project's root (see `instances` for where photographs are)::

    python tests/benchmarks soft_potts
    python tests/benchmarks soft_potts --weights 5 100 --connectivity 8
    python tests/benchmarks soft_potts --classes 3 --relaxation collision_divergence

A batch is 12 photographs of 321 x 321 pixels with seeds. What takes turns, on as many threads as ``--threads`` says:

    - ours: `SoftPotts.solve` whole, from tensors: edge weights, softmax, solving to the default gap, its certificate.
    - forward: the forward pass of DeepLabV3+ with MobileNetV2 (random weights) in training on the same images.
    - adam: gradient descent as one writes it in PyTorch: 200 steps of Adam on logits of the labels; once for each of
      ``--rates``, after the others; edge weights are made before the clock starts.

The gap is Frank and Wolfe's, relative to the energy: the largest of the batch. `excess` is how far the energy of the
worst image is above that of our solution to a gap of 1e-5; another relaxation than the quadratic one is not convex, and
the excess, which may be negative, is over our descent until it falls by no more than 1e-5.
"""

import argparse
from dataclasses import dataclass, replace
from statistics import median
from typing import get_args

import torch
from instances import Case, make
from measuring import Clock, command_line, interleaved, machine, markdown
from torch import Tensor

from weakseg_lightning import GridPotts, SMPNetwork, SoftPotts
from weakseg_lightning.losses import relaxed_potts_energy
from weakseg_lightning.losses.potts import Relaxation

STEPS = 200
RELAXATIONS = [name for name in get_args(Relaxation) if name != "absolute"]


def main() -> None:
    """Solve each setting by all, and print the table."""
    options = parse()
    torch.set_num_threads(options.threads)
    rows = [
        row for weight in options.weights for classes in options.classes for row in measure(weight, classes, options)
    ]
    print(f"12 photographs of 321 x 321, {options.threads} threads; {machine()}; medians of {options.repeats}")
    print(markdown(["weight", "classes", "way", "ms", "over ours", "sweeps or steps", "gap", "excess"], rows))


def measure(weight: float, classes: int, options: argparse.Namespace) -> list[list[str]]:
    """Rows of one setting."""
    cases = [Case(classes, (321, 321), weight, 6.0, number, seeded=True) for number in range(12)]
    made = [make(case) for case in cases]
    logits, image = torch.cat([one.logits for one in made]), torch.cat([one.image for one in made])
    seeds = torch.cat([one.seeds for one in made if one.seeds is not None])
    potts = GridPotts(weight, options.connectivity)
    network = SMPNetwork("deeplabv3plus", "mobilenet_v2", encoder_weights=None).build(21).train()
    edges = potts.edge_weights(image)
    solver = SoftPotts(potts, options.relaxation, num_threads=options.threads)
    problem = Problem(logits, seeds, edges, potts, options.relaxation)

    def ours() -> tuple[float, Tensor, Tensor]:
        with Clock() as clock:
            found = solver.solve(logits, image, seeds=seeds)
        return clock.wall, found.probabilities, found.evaluations

    def forward() -> tuple[float, Tensor, Tensor]:
        with Clock() as clock:
            network(image)
        return clock.wall, logits, torch.zeros(0)

    found = interleaved({"ours": ours, "forward": forward}, options.repeats, warm_up=1)
    found |= {f"adam {rate:g}": [adam(problem, rate)] for rate in options.rates}
    best = replace(solver, tolerance=1e-5, max_sweeps=5000).solve(logits, image, seeds=seeds).energy
    base = median(wall for wall, *_ in found["ours"])
    rows = []
    for name, results in found.items():
        wall = median(wall for wall, *_ in results)
        _, y, count = results[-1]
        known = ["", "", ""] if name == "forward" else quality(y, problem, best, count)
        rows.append([f"{weight:g}", str(classes), name, f"{1000 * wall:.0f}", f"{wall / base:.2f}", *known])
    return rows


@dataclass(frozen=True)
class Problem:
    """A batch of soft labelings to find with the collision link."""

    logits: Tensor
    seeds: Tensor
    edges: Tensor
    potts: GridPotts
    relaxation: Relaxation

    def double(self) -> "Problem":
        """The same in double precision."""
        return replace(self, logits=self.logits.double(), edges=self.edges.double())

    def energy(self, y: Tensor) -> Tensor:
        """Energy of soft labels, ``(B,)``."""
        link = -(y * self.logits.softmax(1)).sum(1).clamp(min=1e-38).log()
        pairs = relaxed_potts_energy(y, self.edges, self.potts.connectivity, self.relaxation)
        return torch.where(self.seeds == 255, link, 0).flatten(1).sum(1) + pairs


def adam(problem: Problem, rate: float) -> tuple[float, Tensor, Tensor]:
    """The soft labels after 200 steps of Adam on their logits, from those of the network."""
    logits, seeds = problem.logits, problem.seeds
    with Clock() as clock:
        free = (seeds == 255)[:, None]
        fixed = torch.nn.functional.one_hot(seeds.where(seeds != 255, 0), logits.shape[1]).permute(0, 3, 1, 2).float()
        inner = logits.clone().requires_grad_()
        optimizer = torch.optim.Adam([inner], lr=rate)
        for _ in range(STEPS):
            problem.energy(torch.where(free, inner.softmax(1), fixed)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        found = torch.where(free, inner.detach().softmax(1), fixed)
    return clock.wall, found, torch.full((len(logits),), STEPS)


def quality(y: Tensor, problem: Problem, best: Tensor, count: Tensor) -> list[str]:
    """Sweeps, relative gap and excess over the best of a batch, in double precision."""
    point = y.double().requires_grad_()
    value = problem.double().energy(point)
    (gradient,) = torch.autograd.grad(value.sum(), point)
    free = problem.seeds == 255
    gap = torch.where(free, (gradient * point).sum(1) - gradient.amin(1), 0).flatten(1).sum(1)
    relative, excess = (gap / value).max().item(), ((value.detach() - best) / best).max().item()
    return [f"{count.float().mean():.0f}", f"{relative:.1e}", f"{excess:.1e}"]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__)
    parser.add_argument("--weights", type=float, nargs="+", default=[20.0], help="lambda / eta")
    parser.add_argument("--classes", type=int, nargs="+", default=[3, 21])
    parser.add_argument("--relaxation", choices=RELAXATIONS, default="quadratic")
    parser.add_argument("--connectivity", type=int, choices=[4, 8], default=4)
    parser.add_argument("--rates", type=float, nargs="*", default=[0.03, 0.1, 0.3], help="of Adam")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
