// What can be known about the answers of the native alpha-expansion, and whether it holds.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

#include "potts/alpha_expansion.hpp"
#include "problem.hpp"
#include "reference.hpp"
#include "support/batch_scheduler.hpp"
#include "support/object_pool.hpp"

namespace fuzz {

constexpr std::uint8_t kUnwritten = 222;

struct Answer {
  Labels labels;
  int failure = 0, sweeps = 0;
  bool converged = false, has_bound = false;
  double unary = 0, pairwise = 0, lower_bound = 0;

  double energy() const { return unary + pairwise; }
  bool operator==(const Answer& other) const {
    return labels == other.labels && failure == other.failure && sweeps == other.sweeps &&
           converged == other.converged && has_bound == other.has_bound && unary == other.unary &&
           pairwise == other.pairwise && lower_bound == other.lower_bound;
  }
};

// All that this program knows of the solver's interface.
inline weakseg::ExpansionProblem view(const Problem& problem, std::vector<const float*>& planes) {
  planes.clear();
  for (const std::vector<float>& plane : problem.scores) planes.push_back(plane.data());
  weakseg::ExpansionProblem given;
  given.height = problem.height;
  given.width = problem.width;
  given.slice = problem.slice;
  given.num_labels = problem.num_labels;
  given.planes = planes.data();
  given.zero = problem.zero.data();
  given.slope = problem.slope;
  given.edges = problem.weights.data();
  given.seeds = problem.seeds.data();
  given.valid = problem.valid.data();
  given.initial = problem.initial.data();
  given.max_sweeps = problem.max_sweeps;
  return given;
}

template <int D>
Answer solve(weakseg::AlphaExpansion<D>& solver, const Problem& problem, bool from_blocks = false) {
  std::vector<const float*> planes;
  weakseg::ExpansionProblem given = view(problem, planes);
  given.from_blocks = from_blocks;
  Answer answer;
  answer.labels.assign(Problem::at(problem.pixels()), kUnwritten);
  const weakseg::ExpansionResult result = solver.run(given, answer.labels.data());
  answer.failure = static_cast<int>(result.failure);
  answer.sweeps = result.sweeps;
  answer.converged = result.converged;
  answer.has_bound = result.has_bound;
  answer.unary = result.unary;
  answer.pairwise = result.pairwise;
  answer.lower_bound = result.lower_bound;
  return answer;
}

inline Answer solve_alone(const Problem& problem) {
  switch (problem.connectivity) {
    case 4: return solve(*std::make_unique<weakseg::AlphaExpansion<4>>(), problem);
    case 6: return solve(*std::make_unique<weakseg::AlphaExpansion<6>>(), problem);
    case 8: return solve(*std::make_unique<weakseg::AlphaExpansion<8>>(), problem);
    default: return solve(*std::make_unique<weakseg::AlphaExpansion<10>>(), problem);
  }
}

inline void expect(bool condition, const char* message) {
  if (!condition) throw std::runtime_error(message);
}

// 1 if a score that counts is not finite, 2 if an edge is not, else 0.
inline int expected_failure(const Problem& problem) {
  for (std::size_t p = 0; p < problem.valid.size(); ++p) {
    if (problem.valid[p] == 0) continue;
    if (!std::isfinite(problem.zero[p])) return 1;
    for (const std::vector<float>& plane : problem.scores) {
      if (!std::isfinite(plane[p])) return 1;
    }
  }
  for (const Edge& edge : problem.edges) {
    if (!std::isfinite(edge.weight)) return 2;
  }
  return 0;
}

inline void check_labels(const Problem& problem, const Answer& answer) {
  for (std::size_t p = 0; p < answer.labels.size(); ++p) {
    const std::uint8_t label = answer.labels[p];
    if (answer.failure != 0) expect(label == kUnwritten, "a failed run wrote labels");
    else if (problem.valid[p] == 0) expect(label == kVoid, "padding got a label");
    else if (problem.seeds[p] != kVoid) expect(label == problem.seeds[p], "a seed was not kept");
    else expect(label < problem.num_labels, "a label is out of range");
  }
}

// The best label of every pixel; at seeds, theirs.
inline Labels best_of(const Problem& problem) {
  Problem free = problem;
  free.initial.assign(problem.valid.size(), kVoid);
  return start_of(free);
}

// What rounding may cost: one of the solver's units, 2^-26 of the largest edge, for each pixel and edge; and the sums,
// which begin with those of the best labels.
struct Tolerance {
  Real sum, cut;

  Tolerance(const Problem& problem, const Energy& energy)
      : sum(1e-13L * (energy.size + Energy(problem, best_of(problem)).size)), cut(sum) {
    Real largest = 0;
    for (const Edge& edge : problem.edges) largest = std::max<Real>(largest, edge.weight);
    const Real unit = largest > 0 ? 0x1p-26L * largest : 1e-30L;
    cut += unit * static_cast<Real>(problem.edges.size() + problem.valid.size());
  }
};

inline void check_energy(const Problem& problem, const Answer& answer) {
  const Energy energy(problem, answer.labels), start(problem, start_of(problem));
  const Tolerance tolerance(problem, energy), both(problem, Energy(problem, start_of(problem)));
  expect(std::abs(answer.unary - energy.unary) <= tolerance.sum, "the unary energy is not the labeling's");
  expect(std::abs(answer.pairwise - energy.pairwise) <= tolerance.sum, "the pairwise energy is not the labeling's");
  const bool raised = energy.total() > start.total() + tolerance.cut + both.sum;
  expect(!raised, "the energy is above the start's");
  expect(answer.has_bound == (problem.num_labels <= 2), "a bound exists for one and two labels");
  if (!answer.has_bound) return;
  expect(answer.lower_bound <= answer.energy(), "the bound is above the energy");
  expect(answer.energy() <= answer.lower_bound + tolerance.cut, "the bound is below the energy of an exact cut");
}

// Labels by the number of pixels where they are best, the most first; of equals the first.
inline std::vector<int> turns_of(const Problem& problem) {
  std::vector<int> areas(256, 0), turns;
  for (const std::uint8_t label : best_of(problem)) ++areas[label];
  for (int k = 0; k < problem.num_labels; ++k) {
    std::size_t place = turns.size();
    while (place > 0 && areas[Problem::at(turns[place - 1])] < areas[Problem::at(k)]) --place;
    turns.insert(turns.begin() + static_cast<std::ptrdiff_t>(place), k);
  }
  return turns;
}

// The same moves one after the other, by plain cuts. Nothing tells equal energies apart here: needs exact integers.
inline void check_moves(const Problem& problem, const Answer& answer, const IntegerProblem& integers) {
  Labels labels = start_of(problem);
  const std::vector<int> turns = turns_of(problem);
  int sweeps = 0, moved = -1;  // when the labeling last changed
  bool converged = problem.num_labels == 1;
  if (problem.num_labels == 2) {
    for (int p = 0; p < problem.pixels(); ++p) {
      if (problem.is_free(p)) labels[Problem::at(p)] = 0;
    }
    integers.expand(labels, 1);
    converged = true;
    sweeps = 1;
  }
  while (!converged && sweeps < problem.max_sweeps) {
    for (int turn = 0; turn < problem.num_labels; ++turn) {
      const int now = sweeps * problem.num_labels + turn;
      if (moved >= 0 && now - moved >= problem.num_labels) break;  // all labels have been tried since
      if (integers.expand(labels, turns[Problem::at(turn)]) > 0) moved = now;
    }
    ++sweeps;
    converged = (sweeps - 1) * problem.num_labels >= moved;
  }
  expect(answer.labels == labels, "the moves differ from those of plain cuts");
  expect(answer.converged == converged && answer.sweeps == sweeps, "the number of sweeps differs from plain cuts'");
}

// Converged: no set of pixels gains by taking one label.
inline void check_exhausted(const Problem& problem, const Answer& answer, const IntegerProblem& integers) {
  for (int k = 0; k < problem.num_labels; ++k) {
    Labels labels = answer.labels;
    expect(integers.expand(labels, k) <= integers.rounding(), "a plain cut finds a better move");
  }
}

// The same by trying every subset, where there are few.
inline void check_subsets(const Problem& problem, const Answer& answer, std::size_t most_pixels) {
  const Tolerance tolerance(problem, Energy(problem, answer.labels));
  for (int k = 0; k < problem.num_labels; ++k) {
    std::vector<Flip> flips;
    for (int p = 0; p < problem.pixels(); ++p) {
      const int own = answer.labels[Problem::at(p)];
      if (problem.is_free(p) && problem.num_labels == 2) flips.push_back({p, 1 - own});
      else if (problem.is_free(p) && own != k) flips.push_back({p, k});
    }
    if (flips.size() > most_pixels) continue;
    const Labels best = best_subset(problem, answer.labels, flips);
    expect(gain_of(problem, answer.labels, best) <= tolerance.cut, "a set of pixels would gain by other labels");
    if (problem.num_labels != 2) continue;
    const Energy least(problem, best);
    expect(answer.lower_bound <= least.total() + 1e-13L * least.size, "the bound is above the least energy");
    break;
  }
}

// Moves from the answer, by a solver that remembers nothing: none is left, and ties keep the labels.
inline void check_fixed_point(const Problem& problem, const Answer& answer) {
  Problem again = problem;
  again.initial = answer.labels;
  for (std::size_t p = 0; p < again.initial.size(); ++p) {
    if (again.valid[p] == 0) again.initial[p] = kVoid;
  }
  const Answer same = solve_alone(again);
  expect(same.labels == answer.labels && same.sweeps <= 1, "a fresh solver finds a move from where this one ended");
}

// Puts every pixel's block in its place.
inline Labels spread(const Problem& problem, const Labels& blocks) {
  const int in_row = (problem.width + weakseg::kBlockSide - 1) / weakseg::kBlockSide;
  Labels labels(problem.valid.size(), kVoid);
  for (int p = 0; p < problem.pixels(); ++p) {
    const int row = p / problem.width / weakseg::kBlockSide, column = p % problem.width / weakseg::kBlockSide;
    if (problem.valid[Problem::at(p)] != 0) labels[Problem::at(p)] = blocks[Problem::at(row * in_row + column)];
  }
  return labels;
}

// A labeling of blocks costs what it costs the pixels, but for rounding.
template <int D>
void check_block_energy(const Problem& problem, Random& random) {
  std::vector<const float*> planes;
  const weakseg::CoarsePotts<D> coarse(view(problem, planes));
  const weakseg::PottsProblem blocks = coarse.problem();
  weakseg::IntegerPotts<D> energy;
  if (energy.read(blocks) != weakseg::Failure::kNone) return;  // a sum that is not finite
  Labels labels(coarse.pixels(), kVoid), framed(energy.grid().size, kVoid);
  for (int p = 0; p < blocks.height * blocks.width; ++p) {
    if (blocks.valid[p] == 0) continue;
    labels[Problem::at(p)] = static_cast<std::uint8_t>(random.below(problem.num_labels));
    framed[Problem::at(energy.grid().node(p / blocks.width, p % blocks.width))] = labels[Problem::at(p)];
  }
  const Energy expected(problem, spread(problem, labels));
  const auto [unary, pairwise] = energy.measure(framed);
  expect(std::abs(unary - expected.unary) <= 1e-5L * expected.size + 1e-37L, "blocks cost something else than pixels");
  expect(std::abs(pairwise - expected.pairwise) <= 1e-5L * expected.size + 1e-37L, "edges of blocks do not add up");
}

// To start from blocks is to be given their labels.
template <int D>
void check_blocks(weakseg::AlphaExpansion<D>& solver, const Problem& problem, const Answer& answer, Random& random) {
  check_block_energy<D>(problem, random);
  const Answer from_blocks = solve(solver, problem, true);
  std::vector<const float*> planes;
  const Labels blocks = solver.label_blocks(view(problem, planes));
  Problem given = problem;
  if (!blocks.empty()) {
    const Labels start = spread(problem, blocks);
    for (std::size_t p = 0; p < start.size(); ++p) {
      if (given.initial[p] == kVoid) given.initial[p] = start[p];
    }
  }
  expect(from_blocks == solve(solver, given), "blocks are another start than their labels");
  if (problem.num_labels == 2) expect(from_blocks.labels == answer.labels, "two labels depend on the start");
}

template <int D>
void check_memory(weakseg::AlphaExpansion<D>& solver, const Problem& problem, const Answer& answer, Random& random) {
  if (random.chance(30)) expect(solve(solver, problem) == answer, "a second run differs");
  const Problem other = draw(random.bits(), D);
  solve(solver, other);
  expect(solve(solver, problem) == answer, "a run after another problem differs");
}

template <int D>
void check(const Problem& problem, Random& random) {
  weakseg::AlphaExpansion<D> solver;
  const Answer answer = solve(solver, problem);
  expect(answer.failure == expected_failure(problem), "the failure code is wrong");
  check_labels(problem, answer);
  if (answer.failure == 0) {
    const IntegerProblem integers(problem);
    check_energy(problem, answer);
    if (integers.exact()) check_moves(problem, answer, integers);
    if (answer.converged) {
      check_exhausted(problem, answer, integers);
      check_subsets(problem, answer, random.chance(1) ? 15 : 8);
      check_fixed_point(problem, answer);
    }
  }
  if constexpr (!weakseg::is_volume(D)) {
    if (answer.failure == 0 && random.chance(30)) check_blocks(solver, problem, answer, random);
  }
  check_memory(solver, problem, answer, random);
}

inline void check_one(std::uint64_t seed) {
  const Problem problem = draw(seed);
  Random random(~seed);
  switch (problem.connectivity) {
    case 4: return check<4>(problem, random);
    case 6: return check<6>(problem, random);
    case 8: return check<8>(problem, random);
    default: return check<10>(problem, random);
  }
}

// Solves the problems of a batch as the Python module does: with solvers that other batches have used, in any order.
class Worker {
 public:
  Worker(const std::vector<Problem>& problems, std::vector<Answer>& answers) : problems_(problems), answers_(answers) {}
  void operator()(std::size_t b) {
    const Problem& problem = problems_[b];
    switch (problem.connectivity) {
      case 4: answers_[b] = solve(*four_, problem); break;
      case 6: answers_[b] = solve(*six_, problem); break;
      case 8: answers_[b] = solve(*eight_, problem); break;
      default: answers_[b] = solve(*ten_, problem);
    }
  }

 private:
  const std::vector<Problem>& problems_;
  std::vector<Answer>& answers_;
  weakseg::Pooled<weakseg::AlphaExpansion<4>> four_;
  weakseg::Pooled<weakseg::AlphaExpansion<6>> six_;
  weakseg::Pooled<weakseg::AlphaExpansion<8>> eight_;
  weakseg::Pooled<weakseg::AlphaExpansion<10>> ten_;
};

inline void check_batch(std::uint64_t seed, std::size_t num_threads) {
  Random random(seed);
  std::vector<Problem> problems(Problem::at(random.between(0, 12)));
  for (Problem& problem : problems) problem = draw(random.bits());
  std::vector<Answer> answers(problems.size());
  const auto difficulty = [&](std::size_t b) { return static_cast<std::size_t>(problems[b].pixels()); };
  weakseg::parallel_for_hardest_first(problems.size(), num_threads, difficulty,
                                      [&] { return Worker(problems, answers); });
  for (std::size_t b = 0; b < problems.size(); ++b) {
    expect(answers[b] == solve_alone(problems[b]), "an image of a batch differs from the image alone");
  }
}

}  // namespace fuzz
