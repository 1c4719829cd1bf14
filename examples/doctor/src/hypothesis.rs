//! Tests of hypotheses: exact ones and permutations, and what they come to when many questions were asked.
//!
//! Each answers with a p-value, the chance that so much would be seen if it were nothing; how large the effect is
//! is told beside it. Permutations are drawn from a seed, so that the same file gets the same answer.

use fastrand::Rng;

/// Draws of a permutation test. The smallest p-value that they can show is one in so many: it must stand some fifty questions.
const DRAWS: u32 = 20_000;
/// Failures moved in all draws together; with many failures there are fewer draws, though no fewer than so many.
const MOVES: usize = 40_000_000;
const LEAST: u32 = 10_000;
/// After so many draws as extreme as what was seen it is nothing.
const ENOUGH: u32 = 40;
const SEED: u64 = 0x5eed;

/// Fisher's exact test of a table of two by two, two-sided: `(failed, well)` under a condition and without it.
pub fn fisher(with: (u64, u64), without: (u64, u64)) -> f64 {
    let (row, column) = (with.0 + with.1, with.0 + without.0);
    let all = row + without.0 + without.1;
    // The logarithms of the factorials.
    let logs: Vec<f64> = (0..=all.min(1 << 24))
        .scan(0.0, |sum, n| {
            *sum += (n.max(1) as f64).ln();
            Some(*sum)
        })
        .collect();
    let ln = |n: u64| logs.get(n as usize).copied().unwrap_or(f64::INFINITY);
    let of = |a: u64| {
        let choose = |n: u64, k: u64| ln(n) - ln(k) - ln(n - k);
        choose(row, a) + choose(all - row, column - a) - choose(all, column)
    };
    let seen = of(with.0);
    let (least, most) = (column.saturating_sub(all - row), row.min(column));
    (least..=most).map(of).filter(|p| *p <= seen + 1e-7).map(f64::exp).sum::<f64>().min(1.0)
}

/// Whether failing goes with a category: a G-test by permutation, of `category[i]` and `failed[i]`.
///
/// With `strata` failures are only moved within their stratum: what goes with the strata is taken as given.
pub fn by_category(category: &[u32], failed: &[bool], strata: Option<&[u32]>) -> f64 {
    let size = category.iter().max().map_or(0, |most| *most as usize + 1);
    let mut all = vec![0_u32; size];
    for c in category {
        bump(&mut all, *c);
    }
    // Each outcome is no likelier than its likelihood ratio, times rows, and there are no more than these outcomes.
    let (k, n) = (failed.iter().filter(|failed| **failed).count() as u64, failed.len());
    let outcomes = (n as f64 + 1.0).ln() + all.iter().map(|n| (f64::from(*n) + 1.0).ln()).sum::<f64>();
    let bound = |sum: f64| if strata.is_none() { outcomes + bernoulli(k, n as u64) - sum } else { 0.0 };
    let mut of = vec![0_u32; size];
    let mut touched = Vec::new();
    permuted(failed, strata, bound, |failures| {
        touched.drain(..).for_each(|c: usize| set(&mut of, c, 0));
        for i in failures {
            let Some(c) = category.get(*i as usize) else { continue };
            if bump(&mut of, *c) == 1 {
                touched.push(*c as usize);
            }
        }
        // The part of G that depends on where the failures are.
        touched.iter().map(|c| bernoulli(at(&of, *c), at(&all, *c))).sum()
    })
}

/// Whether failing goes with a number, upwards: permuting ranks.
pub fn by_rank(value: &[f64], failed: &[bool], strata: Option<&[u32]>) -> f64 {
    let ranks = ranks(value);
    let (expected, spread) = expected(&ranks, failed, strata);
    // Hoeffding's bound.
    let bound = |sum: f64| -2.0 * (sum - expected).max(0.0).powi(2) / spread.max(1.0);
    permuted(failed, strata, bound, |failures| failures.iter().filter_map(|i| ranks.get(*i as usize)).sum())
}

/// The sum of the failures' ranks that is expected, and of each draw's range the square.
fn expected(ranks: &[f64], failed: &[bool], strata: Option<&[u32]>) -> (f64, f64) {
    let mut parts: std::collections::BTreeMap<u32, (Vec<f64>, f64)> = std::collections::BTreeMap::new();
    for (i, (rank, failed)) in ranks.iter().zip(failed).enumerate() {
        let part = parts.entry(strata.and_then(|strata| strata.get(i)).copied().unwrap_or_default()).or_default();
        part.0.push(*rank);
        part.1 += f64::from(u8::from(*failed));
    }
    parts.values().fold((0.0, 0.0), |(expected, spread), (ranks, failures)| {
        let n = ranks.len() as f64;
        let range = ranks.iter().copied().fold(0.0, f64::max) - ranks.iter().copied().fold(f64::INFINITY, f64::min);
        let mean = ranks.iter().sum::<f64>() / n;
        (expected + failures * mean, spread + failures.min(n - failures) * range * range)
    })
}

/// Whether failures crowd in one span of an order: the likelihood ratio of the best span of `bins`, by permutation.
pub fn by_span(bin: &[u32], bins: usize, failed: &[bool]) -> f64 {
    let mut all = vec![0_u32; bins];
    for b in bin {
        bump(&mut all, *b);
    }
    // As of categories: of each span there are as many outcomes as failures may be in it.
    let spans = (bins * (bins + 1) / 2) as f64;
    let bound = |ratio: f64| spans.ln() + 2.0 * (failed.len() as f64 + 1.0).ln() - ratio;
    let mut of = vec![0_u32; bins];
    permuted(failed, None, bound, |failures| {
        of.fill(0);
        for i in failures {
            if let Some(b) = bin.get(*i as usize) {
                bump(&mut of, *b);
            }
        }
        best_span(&of, &all).0
    })
}

/// The span of bins that is most unlike the rest: its likelihood ratio, first and last bin.
pub fn best_span(failed: &[u32], all: &[u32]) -> (f64, usize, usize) {
    let sum = |counts: &[u32]| counts.iter().map(|n| u64::from(*n)).sum();
    let (k, n): (u64, u64) = (sum(failed), sum(all));
    let mut best = (0.0, 0, 0);
    for first in 0..all.len() {
        let (mut o, mut m) = (0, 0);
        for last in first..all.len() {
            o += at(failed, last);
            m += at(all, last);
            // Only spans in which more fails than outside.
            if m == n || m == 0 || o * n <= k * m {
                continue;
            }
            let ratio = bernoulli(o, m) + bernoulli(k - o, n - m) - bernoulli(k, n);
            if ratio > best.0 {
                best = (ratio, first, last);
            }
        }
    }
    best
}

/// How much of the failing a category explains, in nats a row, less what as many categories explain by chance.
pub fn explained(category: &[u32], failed: &[bool]) -> f64 {
    let mut tables: std::collections::BTreeMap<u32, (u64, u64)> = std::collections::BTreeMap::new();
    for (category, failed) in category.iter().zip(failed) {
        let (bad, all) = tables.entry(*category).or_default();
        *bad += u64::from(*failed);
        *all += 1;
    }
    let (k, n) = tables.values().fold((0, 0), |(k, n), (bad, all)| (k + bad, n + all));
    let sum: f64 = tables.values().map(|(bad, all)| bernoulli(*bad, *all)).sum();
    (sum - bernoulli(k, n) - tables.len().saturating_sub(1) as f64 / 2.0) / n.max(1) as f64
}

/// The log-likelihood gained by telling two groups apart, each `(failed, well)`: how much better the two shares fit than one.
pub fn gain(with: (u64, u64), without: (u64, u64)) -> f64 {
    let fit = |(bad, well): (u64, u64)| bernoulli(bad, bad + well);
    (fit(with) + fit(without) - fit((with.0 + without.0, with.1 + without.1))).max(0.0)
}

fn bernoulli(o: u64, m: u64) -> f64 {
    x_ln_x(o) + x_ln_x(m.saturating_sub(o)) - x_ln_x(m)
}

fn x_ln_x(x: u64) -> f64 {
    if x == 0 { 0.0 } else { x as f64 * (x as f64).ln() }
}

fn at(counts: &[u32], i: usize) -> u64 {
    counts.get(i).copied().unwrap_or_default().into()
}

fn set(counts: &mut [u32], i: usize, to: u32) {
    if let Some(count) = counts.get_mut(i) {
        *count = to;
    }
}

fn bump(counts: &mut [u32], i: u32) -> u32 {
    counts.get_mut(i as usize).map_or(0, |count| {
        *count += 1;
        *count
    })
}

/// How often a draw of as many failures, within their strata, comes to as much as those seen. The logarithm that this chance
/// is at most, by what was seen, is enough if it is lower than draws can show.
fn permuted(
    failed: &[bool],
    strata: Option<&[u32]>,
    bound: impl Fn(f64) -> f64,
    mut statistic: impl FnMut(&[u32]) -> f64,
) -> f64 {
    let mut groups: std::collections::BTreeMap<u32, (Vec<u32>, usize)> = std::collections::BTreeMap::new();
    let mut seen = Vec::new();
    for (i, failed) in failed.iter().enumerate() {
        let stratum = strata.and_then(|strata| strata.get(i)).copied().unwrap_or_default();
        let group = groups.entry(stratum).or_default();
        let i = u32::try_from(i).unwrap_or(u32::MAX);
        group.0.push(i);
        if *failed {
            group.1 += 1;
            seen.push(i);
        }
    }
    let seen_statistic = statistic(&seen);
    let mut rng = Rng::with_seed(SEED);
    let (mut as_much, mut draws) = (0_u32, 0_u32);
    let mut drawn = Vec::with_capacity(seen.len());
    let most = u32::try_from(MOVES / seen.len().max(1)).unwrap_or(DRAWS).clamp(LEAST, DRAWS);
    let surely = bound(seen_statistic).exp();
    if surely < 1.0 / f64::from(DRAWS) {
        return surely;
    }
    while draws < most && as_much < ENOUGH {
        drawn.clear();
        for (members, failures) in groups.values_mut() {
            for i in 0..*failures {
                let other = rng.usize(i..members.len());
                members.swap(i, other);
            }
            drawn.extend_from_slice(members.get(..*failures).unwrap_or_default());
        }
        draws += 1;
        as_much += u32::from(statistic(&drawn) >= seen_statistic - 1e-9);
    }
    f64::from(as_much + 1) / f64::from(draws + 1)
}

/// Ranks from 1, equal values the mean of theirs.
fn ranks(value: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..value.len()).collect();
    let of = |i: &usize| value.get(*i).copied().unwrap_or_default();
    order.sort_by(|a, b| of(a).total_cmp(&of(b)));
    let mut ranks = vec![0.0; value.len()];
    for same in order.chunk_by(|a, b| of(a) == of(b)) {
        let first = same.first().map_or(0, |i| *i);
        let before = order.partition_point(|i| of(i) < of(&first));
        let mean = before as f64 + (same.len() as f64 + 1.0) / 2.0;
        for i in same {
            if let Some(rank) = ranks.get_mut(*i) {
                *rank = mean;
            }
        }
    }
    ranks
}

/// The chance that a failed one has the higher value, of a failed and a well one: 0.5 is nothing, 1 all.
pub fn higher(value: &[f64], failed: &[bool]) -> f64 {
    let ranks = ranks(value);
    let k = failed.iter().filter(|failed| **failed).count() as f64;
    let n = failed.len() as f64;
    if k == 0.0 || k == n {
        return 0.5;
    }
    let sum: f64 = ranks.iter().zip(failed).filter(|(_, failed)| **failed).map(|(rank, _)| rank).sum();
    (sum - k * (k + 1.0) / 2.0) / (k * (n - k))
}

/// P-values as they are when so many questions were asked (Holm): multiplied by how many are not smaller.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    let of = |i: usize| p.get(i).copied().unwrap_or(1.0);
    order.sort_by(|a, b| of(*a).total_cmp(&of(*b)));
    let mut corrected = vec![1.0; p.len()];
    let mut most = 0.0_f64;
    for (place, i) in order.iter().enumerate() {
        most = most.max((of(*i) * (p.len() - place) as f64).min(1.0));
        if let Some(out) = corrected.get_mut(*i) {
            *out = most;
        }
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fisher_is_the_lady_who_tasted_tea() {
        assert!((fisher((3, 1), (1, 3)) - 0.485_714).abs() < 1e-5);
        assert!((fisher((4, 0), (0, 4)) - 0.028_571).abs() < 1e-5);
        assert!((fisher((0, 10), (0, 10)) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_goes_with_a_category_is_seen_and_what_does_not_is_not() {
        let category: Vec<u32> = (0..200).map(|i| i % 10).collect();
        let of_two: Vec<bool> = category.iter().map(|c| *c == 3).collect();
        let scattered: Vec<bool> = (0..200).map(|i| (i * 7919) % 97 < 12).collect();
        assert!(by_category(&category, &of_two, None) < 0.001);
        assert!(by_category(&category, &scattered, None) > 0.05);
        assert!(by_category(&category, &of_two, Some(&category)) > 0.9, "given the category nothing is left");
    }

    #[test]
    fn ranks_and_spans() {
        let value: Vec<f64> = (0..100).map(f64::from).collect();
        let last: Vec<bool> = (0..100).map(|i| i >= 80).collect();
        assert!(by_rank(&value, &last, None) < 0.001);
        assert!((higher(&value, &last) - 1.0).abs() < 1e-9);
        let bins: Vec<u32> = (0..100).map(|i| i / 5).collect();
        let middle: Vec<bool> = (0..100).map(|i| (40..50).contains(&i)).collect();
        assert!(by_span(&bins, 20, &middle) < 0.001);
        assert_eq!(best_span(&[0, 0, 5, 5, 0], &[5; 5]).1, 2);
    }

    #[test]
    fn of_many_failures_what_is_something_is_sure_and_what_is_nothing_is_not() {
        let mut rng = Rng::with_seed(3);
        let (half, place): (Vec<u32>, Vec<f64>) = (0..20_000).map(|i| (i / 10_000, f64::from(i))).unzip();
        let (of_ten, bin): (Vec<u32>, Vec<u32>) = (0..20_000).map(|i| (i % 5 + i / 10_000 * 5, i / 500)).unzip();
        let scattered: Vec<bool> = half.iter().map(|_| rng.f64() < 0.4).collect();
        let more: Vec<bool> = half.iter().map(|half| rng.f64() < 0.3 + 0.2 * f64::from(*half)).collect();
        let all = |failed: &[bool], strata: Option<&[u32]>| {
            [by_rank(&place, failed, strata), by_category(&of_ten, failed, strata), by_span(&bin, 40, failed)]
        };
        assert!(all(&scattered, None).iter().all(|p| *p > 0.05), "{:?}", all(&scattered, None));
        assert!(all(&more, None).iter().all(|p| *p < 1e-6), "{:?}", all(&more, None));
        let [rank, category, _] = all(&more, Some(&half));
        assert!(rank > 0.05 && category > 0.05, "given the half nothing is left: {rank} {category}");
        let late: Vec<bool> = place.iter().map(|place| rng.f64() < 0.2 + place % 10_000.0 / 25_000.0).collect();
        assert!(by_rank(&place, &late, Some(&half)) < 1e-6);
    }

    #[test]
    fn holm_multiplies_by_the_questions_asked() {
        let corrected = holm(&[0.01, 0.04, 0.03]);
        let expected = [0.03, 0.06, 0.06];
        assert!(corrected.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{corrected:?}");
    }

    #[test]
    fn of_a_thousand_files_with_nothing_in_them_few_show_something() {
        let mut rng = Rng::with_seed(1);
        let category: Vec<u32> = (0..60).map(|i| i % 6).collect();
        let shown = (0..300)
            .filter(|_| {
                let failed: Vec<bool> = category.iter().map(|_| rng.f64() < 0.3).collect();
                by_category(&category, &failed, None) < 0.05
            })
            .count();
        assert!(shown < 30, "{shown} of 300");
    }
}
