use moescope_trace::{LayerRouting, TokenTable};

use super::names::Names;

/// What tokens hand on to their successors in one layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// Experts that a token and its successor share, summed over pairs of neighbours.
    pub shared: u64,
    /// Pairs of neighbours with the same first choice.
    pub same_first: u64,
}

impl Handover {
    /// Adds one pair of neighbours: the sets of a token and its successor, the largest weight first.
    #[inline]
    pub fn add(&mut self, here: &[u32], next: &[u32]) {
        self.shared += here.iter().filter(|expert| next.contains(expert)).count() as u64;
        self.same_first += u64::from(here[0] == next[0]);
    }
}

/// Whether the token after `token` in the table follows it in the same document.
#[inline]
pub(crate) fn is_followed(tokens: &TokenTable, token: usize) -> bool {
    tokens.documents[token] == tokens.documents[token + 1]
        && tokens.positions[token].checked_add(1) == Some(tokens.positions[token + 1])
}

/// Whether the next token of the table follows each one in its document: `[token]`, 1 or 0; the last has none.
pub(super) fn followed(tokens: &TokenTable) -> Vec<u8> {
    let last = tokens.len().saturating_sub(1);
    (0..tokens.len()).map(|token| u8::from(token < last && is_followed(tokens, token))).collect()
}

/// Sums over documents behind the interval of a ratio `Σ numerator / Σ denominator`: integers, so that they merge.
///
/// Documents are the independent units: the interval is that of the linearised ratio estimator (Cochran 1977, §6.4 and §9A), with
/// `D / (D − 1)` for `D` documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RatioSums {
    /// Σ numerator.
    pub numerator: u64,
    /// Σ denominator.
    pub denominator: u64,
    /// Σ numerator².
    pub numerator_squares: u64,
    /// Σ numerator × denominator.
    pub products: u64,
    /// Σ denominator².
    pub denominator_squares: u64,
}

impl RatioSums {
    /// Adds a document.
    #[inline]
    pub fn add(&mut self, numerator: u64, denominator: u64) {
        self.numerator += numerator;
        self.denominator += denominator;
        self.numerator_squares += numerator * numerator;
        self.products += numerator * denominator;
        self.denominator_squares += denominator * denominator;
    }

    /// The ratio; NaN without a denominator.
    pub fn ratio(&self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }

    /// 95 % interval of the ratio over `documents` documents, by the normal distribution; NaN with fewer than two.
    pub fn interval(&self, documents: u64) -> (f64, f64) {
        let (ratio, d) = (self.ratio(), documents as f64);
        let squares = self.numerator_squares as f64 - 2.0 * ratio * self.products as f64
            + ratio * ratio * self.denominator_squares as f64;
        let variance = d / (d - 1.0) * squares.max(0.0) / (self.denominator as f64).powi(2);
        let half = if documents < 2 { f64::NAN } else { NORMAL_95 * variance.sqrt() };
        (ratio - half, ratio + half)
    }

    pub(super) fn parts(&self) -> [u64; 5] {
        [self.numerator, self.denominator, self.numerator_squares, self.products, self.denominator_squares]
    }

    pub(super) fn part_mut(&mut self, part: usize) -> Option<&mut u64> {
        match part {
            0 => Some(&mut self.numerator),
            1 => Some(&mut self.denominator),
            2 => Some(&mut self.numerator_squares),
            3 => Some(&mut self.products),
            4 => Some(&mut self.denominator_squares),
            _ => None,
        }
    }
}

/// The 97.5 % quantile of the normal distribution.
const NORMAL_95: f64 = 1.959_963_984_540_054;

/// Handovers of each stretch of tokens of one document, with its pairs of neighbours. Sets may come as bits besides, which are quicker to compare.
pub(super) fn by_stretch<'a>(
    layer: &'a LayerRouting,
    masks: Option<&'a [u64]>,
    names: &'a Names<'_>,
) -> impl Iterator<Item = (Handover, u64)> + 'a {
    names.documents.stretches.iter().map(move |stretch| {
        let inside = stretch.start..stretch.end - 1;
        let pairs = names.followed[inside.clone()].iter().map(|followed| u64::from(*followed)).sum();
        if layer.per_token == 1 {
            let same = same_choice(&layer.choices[stretch.clone()], &names.followed[inside]);
            return (Handover { shared: same, same_first: same }, pairs);
        }
        let mut handover = Handover::default();
        for token in inside.filter(|token| names.followed[*token] == 1) {
            let (here, next) = (layer.chosen(token), layer.chosen(token + 1));
            match masks {
                Some(masks) => {
                    handover.shared += u64::from((masks[token] & masks[token + 1]).count_ones());
                    handover.same_first += u64::from(here[0] == next[0]);
                }
                None => handover.add(here, next),
            }
        }
        (handover, pairs)
    })
}

/// Pairs of neighbours that choose the same expert, where one follows the other.
fn same_choice(choices: &[u32], followed: &[u8]) -> u64 {
    let pairs = choices.iter().zip(&choices[1..]).zip(followed);
    u64::from(
        pairs.map(|((here, next), followed)| u32::from(here == next) & u32::from(*followed)).sum::<u32>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_worked_ratios_and_intervals() {
        let mut sums = RatioSums::default();
        [(1, 2), (3, 4), (0, 2), (4, 4)].iter().for_each(|(x, n)| sums.add(*x, *n));
        assert_eq!(sums.ratio(), 8.0 / 12.0);
        // Residuals x − r n: −1/3, 1/3, −4/3, 4/3; Σ² = 34/9; variance 4/3 · 34/9 / 144.
        let half = NORMAL_95 * (4.0 / 3.0 * 34.0 / 9.0 / 144.0f64).sqrt();
        let (low, high) = sums.interval(4);
        assert!((low - (2.0 / 3.0 - half)).abs() < 1e-12 && (high - (2.0 / 3.0 + half)).abs() < 1e-12);
        assert!(sums.interval(1).0.is_nan());
    }

    #[test]
    fn intervals_cover_at_the_stated_rate() {
        use rand::RngExt;
        // Documents of different length and topic: a share of tokens whose truth is 1/2.
        let covers = |seed: u64| {
            let mut rng = moescope_base::Seed(seed).rng();
            let mut sums = RatioSums::default();
            for _ in 0..60 {
                let (length, topic) = (rng.random_range(20..100u64), rng.random::<f64>());
                let hits = (0..length).filter(|_| rng.random::<f64>() < topic).count() as u64;
                sums.add(hits, length);
            }
            let (low, high) = sums.interval(60);
            low <= 0.5 && 0.5 <= high
        };
        let covered = (0..400).filter(|seed| covers(*seed)).count() as f64 / 400.0;
        assert!((0.92..=0.98).contains(&covered), "{covered}");
    }
}
