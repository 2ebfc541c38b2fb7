use super::ExactSum;

/// How often each code was chosen beside each label: `counts[label, code]`; labels that were not seen have no row yet.
///
/// Every slot counts, so with several slots for each token a row sums to slots, not tokens.
#[derive(Clone, Debug, Default)]
pub struct Contingency {
    codes: usize,
    counts: Vec<u32>,
}

/// Equal counts are equal, whether or not there is room for labels that were not seen.
impl PartialEq for Contingency {
    fn eq(&self, other: &Contingency) -> bool {
        self.codes == other.codes && self.cells().eq(other.cells())
    }
}

impl Contingency {
    /// An empty table of so many codes.
    pub fn new(codes: usize) -> Contingency {
        Contingency { codes, counts: Vec::new() }
    }

    /// Counts the codes of tokens, `per_token` for each label.
    pub fn add(&mut self, labels: impl IntoIterator<Item = u32>, choices: &[u32], per_token: usize) {
        for (label, set) in labels.into_iter().zip(choices.chunks_exact(per_token)) {
            let row = self.row_mut(label as usize);
            set.iter().for_each(|code| row[*code as usize] += 1);
        }
    }

    /// The rows of even labels and those of odd ones, each under half of its label.
    pub(super) fn parted(&self) -> [Contingency; 2] {
        let mut parts = [Contingency::new(self.codes), Contingency::new(self.codes)];
        for (label, row) in self.counts.chunks_exact(self.codes.max(1)).enumerate() {
            parts[label % 2].add_row(label / 2, row);
        }
        parts
    }

    /// Adds the counts of another table of these codes.
    pub(super) fn merge(&mut self, other: &Contingency) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, more)| *own += more);
    }

    /// Adds the counts of one label, `[code]`.
    pub(super) fn add_row(&mut self, label: usize, counts: &[u32]) {
        self.row_mut(label).iter_mut().zip(counts).for_each(|(own, more)| *own += more);
    }

    /// Adds to one cell; whether the code is one of the table and the count stays one.
    pub(crate) fn add_cell(&mut self, label: usize, code: usize, count: i64) -> bool {
        if code >= self.codes {
            return false;
        }
        let cell = &mut self.row_mut(label)[code];
        let sum = i64::from(*cell).checked_add(count).and_then(|sum| u32::try_from(sum).ok());
        sum.map(|sum| *cell = sum).is_some()
    }

    /// Codes of the table.
    pub fn codes(&self) -> usize {
        self.codes
    }

    /// Labels for which there is room; those never seen have rows of 0.
    pub fn labels(&self) -> usize {
        self.counts.len() / self.codes.max(1)
    }

    /// Counts of one label, by code; 0 for one never seen.
    pub fn count(&self, label: usize, code: usize) -> u32 {
        self.counts.get(label * self.codes + code).copied().unwrap_or(0)
    }

    /// Label, code and count of each cell that is not 0.
    pub fn cells(&self) -> impl Iterator<Item = (usize, usize, u32)> + '_ {
        let cell = |(cell, count): (usize, &u32)| (cell / self.codes, cell % self.codes, *count);
        self.counts.iter().enumerate().map(cell).filter(|(.., count)| *count > 0)
    }

    /// Plug-in mutual information of label and code, entropy of the label, and the first-order bias of the information: bits for each slot.
    ///
    /// The bias is `(L − 1)(C − 1) / (2 N ln 2)` for `L` labels and `C` codes in use over `N` slots, as if slots were independent, which those of
    /// one token or document are not.
    ///
    /// - **Source:** Miller 1955, "Note on the bias of information estimates".
    pub fn information(&self) -> LabelInformation {
        let (mut by_label, mut by_code) = (vec![0u64; self.labels()], vec![0u64; self.codes]);
        // Exact sums, so that the order of labels does not change a bit.
        let mut joint = ExactSum::default();
        for (label, code, count) in self.cells() {
            by_label[label] += u64::from(count);
            by_code[code] += u64::from(count);
            joint.add(count_log(u64::from(count)));
        }
        let slots: u64 = by_code.iter().sum();
        let (n, log) = (slots as f64, count_log(slots));
        let sum = |counts: &[u64]| {
            let mut sum = ExactSum::default();
            counts.iter().for_each(|count| sum.add(count_log(*count)));
            sum.value()
        };
        let used = |counts: &[u64]| counts.iter().filter(|c| **c > 0).count() as f64;
        let label_entropy = (log - sum(&by_label)) / n;
        LabelInformation {
            bits: ((log - sum(&by_label) - sum(&by_code) + joint.value()) / n).max(0.0),
            bias: (used(&by_label) - 1.0).max(0.0) * (used(&by_code) - 1.0).max(0.0)
                / (2.0 * n * std::f64::consts::LN_2),
            label_entropy: label_entropy.max(0.0),
            code_entropy: ((log - sum(&by_code)) / n).max(0.0),
            labels: used(&by_label) as usize,
            slots,
        }
    }

    fn row_mut(&mut self, label: usize) -> &mut [u32] {
        let end = (label + 1) * self.codes;
        if self.counts.len() < end {
            // In doublings, so that growing costs little.
            self.counts.resize(end.next_power_of_two(), 0);
            self.counts.truncate(self.counts.len() / self.codes * self.codes);
        }
        &mut self.counts[end - self.codes..end]
    }
}

/// What codes tell about labels, from counts alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelInformation {
    /// Plug-in information, bits for each slot.
    pub bits: f64,
    /// What it would be on average with nothing to find, to first order, bits.
    pub bias: f64,
    /// Entropy of the label, bits.
    pub label_entropy: f64,
    /// Entropy of the code, bits.
    pub code_entropy: f64,
    /// Labels seen.
    pub labels: usize,
    /// Slots counted.
    pub slots: u64,
}

pub(super) fn count_log(count: u64) -> f64 {
    if count < 2 { 0.0 } else { count as f64 * (count as f64).log2() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_worked_table() {
        let mut table = Contingency::new(2);
        table.add([0, 0, 5, 5], &[0, 0, 1, 1], 1);
        let told = table.information();
        // The code names the label: one bit of one.
        assert_eq!((told.bits, told.label_entropy, told.labels, told.slots), (1.0, 1.0, 2, 4));
        assert!((told.bias - 1.0 / (8.0 * std::f64::consts::LN_2)).abs() < 1e-12);
        assert_eq!(table.cells().collect::<Vec<_>>(), [(0, 0, 2), (5, 1, 2)]);
        assert_eq!((table.count(5, 1), table.count(900, 1)), (2, 0));
        let mut other = Contingency::new(2);
        assert!(other.add_cell(5, 1, 2) && other.add_cell(0, 0, 2));
        assert_eq!(other, table);
        assert!(!other.add_cell(0, 2, 1) && !other.add_cell(0, 0, -3));
    }

    #[test]
    fn with_nothing_to_find_the_bias_is_what_is_found() {
        let mut rng = moescope_base::Seed(3).rng();
        let mut excess = 0.0;
        for _ in 0..200 {
            let draw = |rng: &mut rand_chacha::ChaCha8Rng, n| rand::RngExt::random_range(rng, 0..n);
            let labels: Vec<u32> = (0..2_000).map(|_| draw(&mut rng, 6u32)).collect();
            let codes: Vec<u32> = (0..2_000).map(|_| draw(&mut rng, 8u32)).collect();
            let mut table = Contingency::new(8);
            table.add(labels, &codes, 1);
            let told = table.information();
            excess += (told.bits / told.bias - 1.0) / 200.0;
        }
        // Bits × 2 N ln 2 has 35 degrees of freedom: the mean of 200 has a deviation of 1.7 %.
        assert!(excess.abs() < 0.06, "{excess}");
    }
}
