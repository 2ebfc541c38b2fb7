use super::grouping::{Grouping, Regrouping, for_each_part};
use super::{Choices, Exchange, Labels};
use crate::AnalysisError;
use crate::routing::{NullComparison, Permutations, Tail};

const METHOD: &str = "information";

/// Information between what a token chose and what it is, beside its null.
///
/// - **Unit and range:** bits per routed slot, from 0 to the smaller of the entropies of choice and label.
/// - **Null:** routes exchanged as [`Exchange`] says. Its mean is the bias of the estimate from counts, which grows
///   with the number of values and of labels, so only the excess over it may be compared between instruments.
/// - **Does not show:** causes. A router that reads the token alone carries information about everything that goes
///   with the token; condition on the token to see what is left.
/// - **Source:** plug-in mutual information; permutation bias correction as in adjusted mutual information, Vinh,
///   Epps and Bailey 2010.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InformationTest {
    /// Plug-in information beside its null, bits per routed slot.
    pub information: NullComparison,
    /// Entropy of the label (given the condition), bits: what there was to know.
    pub label_entropy: f64,
    /// Tokens behind the estimate.
    pub tokens: usize,
}

impl InformationTest {
    /// Bias-corrected information, bits per routed slot; 0 if there is nothing to find, and then as often negative.
    pub fn excess(&self) -> f64 {
        self.information.excess()
    }

    /// Bias-corrected information as a share of the entropy of the label. NaN if the label does not vary.
    pub fn share(&self) -> f64 {
        self.excess() / positive_or_nan(self.label_entropy)
    }

    /// Bias-corrected information as a share of what was left to find above the null: 1 if the choice names the label.
    ///
    /// The form to compare units with very different numbers of values, such as experts and paths. NaN if the null
    /// already reaches the entropy of the label, as for paths that are all distinct.
    pub fn adjusted_share(&self) -> f64 {
        self.excess() / positive_or_nan(self.label_entropy - self.information.null_mean)
    }
}

/// Information between choices and labels, optionally given another label, against its permutation null.
///
/// # Errors
/// If there is no token or no permutation, lengths differ, or documents are exchanged whose tokens differ in label.
pub fn information(
    choices: Choices<'_>,
    labels: &Labels,
    given: Option<&Labels>,
    exchange: Exchange<'_>,
    permutations: Permutations,
) -> Result<InformationTest, AnalysisError> {
    let mut tests = information_each(&[choices], labels, given, exchange, permutations)?;
    Ok(tests.remove(0))
}

/// [`information`] for several choices of the same tokens, all under the same draws of the null.
///
/// # Errors
/// As [`information`].
pub fn information_each(
    choices: &[Choices<'_>],
    labels: &Labels,
    given: Option<&Labels>,
    exchange: Exchange<'_>,
    permutations: Permutations,
) -> Result<Vec<InformationTest>, AnalysisError> {
    permutations.check(METHOD)?;
    check_lengths(choices, labels, given)?;
    let regrouping = Regrouping::new(labels, given, exchange)?;
    let slots = choices.iter().map(|c| c.tokens() * c.per_token()).max().unwrap_or(0);
    let logs = CountLogs::up_to(slots);
    let values = choices.iter().map(Choices::values).max().unwrap_or(0);

    let observe = |grouping: &Grouping, counter: &mut Counter| -> Vec<f64> {
        choices.iter().map(|c| plug_in(*c, grouping, counter, &logs)).collect()
    };
    let observed = observe(&regrouping.start, &mut Counter::new(values));
    let draws = permutations.draw(
        || (regrouping.start.clone(), Counter::new(values)),
        |(grouping, counter), rng| {
            regrouping.draw(grouping, rng);
            observe(grouping, counter)
        },
    );
    let label_entropy = label_entropy(&regrouping.start, &logs);
    let test = |(i, observed): (usize, &f64)| {
        let null: Vec<f64> = draws.iter().map(|draw| draw[i]).collect();
        let information = NullComparison::new(*observed, &null, Tail::Upper);
        InformationTest { information, label_entropy, tokens: choices[i].tokens() }
    };
    Ok(observed.iter().enumerate().map(test).collect())
}

fn check_lengths(
    choices: &[Choices<'_>],
    labels: &Labels,
    given: Option<&Labels>,
) -> Result<(), AnalysisError> {
    let wanted = labels.codes().len();
    if wanted == 0 {
        return Err(AnalysisError::TooFew { method: METHOD, unit: "tokens", found: 0, wanted: 1 });
    }
    let found = choices.iter().map(Choices::tokens).chain(given.map(|g| g.codes().len()));
    match found.into_iter().find(|found| *found != wanted) {
        Some(found) => Err(AnalysisError::Length { method: METHOD, what: "choices or given", found, wanted }),
        None => Ok(()),
    }
}

/// Entropy of choices within segments minus entropy of choices within groups, bits per slot.
fn plug_in(choices: Choices<'_>, grouping: &Grouping, counter: &mut Counter, logs: &CountLogs) -> f64 {
    let mut uncertainty = |parts: &[u32]| {
        let mut sum = 0.0;
        for_each_part(parts, |part| {
            let slots = part.len() * choices.per_token();
            sum += logs.of(slots) - counter.sum_count_logs(choices, &grouping.order[part], logs);
        });
        sum
    };
    let bits = uncertainty(&grouping.segments) - uncertainty(&grouping.groups);
    // Rounding alone can make a zero negative.
    (bits / (grouping.order.len() * choices.per_token()) as f64).max(0.0)
}

fn label_entropy(grouping: &Grouping, logs: &CountLogs) -> f64 {
    let sum = |parts: &[u32]| {
        let mut sum = 0.0;
        for_each_part(parts, |part| sum += logs.of(part.len()));
        sum
    };
    ((sum(&grouping.segments) - sum(&grouping.groups)) / grouping.order.len() as f64).max(0.0)
}

fn positive_or_nan(x: f64) -> f64 {
    if x > 1e-12 { x } else { f64::NAN }
}

/// Counts of codes, reset by what was touched, so that many small groups cost only their tokens.
struct Counter {
    counts: Vec<u32>,
    touched: Vec<u32>,
}

impl Counter {
    fn new(values: usize) -> Counter {
        Counter { counts: vec![0; values], touched: Vec::with_capacity(values) }
    }

    /// Sum over codes of `count * log2(count)`, for the choices of some tokens.
    fn sum_count_logs(&mut self, choices: Choices<'_>, tokens: &[u32], logs: &CountLogs) -> f64 {
        for token in tokens {
            for code in choices.of(*token as usize) {
                let count = &mut self.counts[*code as usize];
                if *count == 0 {
                    self.touched.push(*code);
                }
                *count += 1;
            }
        }
        // In the order of first touch, so that renaming the codes does not change a bit of the sum.
        let sum = self.touched.iter().map(|code| logs.of(self.counts[*code as usize] as usize)).sum();
        self.touched.drain(..).for_each(|code| self.counts[code as usize] = 0);
        sum
    }
}

/// `count * log2(count)`, tabulated for the counts that are frequent.
struct CountLogs {
    table: Vec<f64>,
}

impl CountLogs {
    fn up_to(largest: usize) -> CountLogs {
        CountLogs { table: (0..=largest.min(1 << 14)).map(count_log).collect() }
    }

    fn of(&self, count: usize) -> f64 {
        self.table.get(count).copied().unwrap_or_else(|| count_log(count))
    }
}

fn count_log(count: usize) -> f64 {
    if count < 2 { 0.0 } else { count as f64 * (count as f64).log2() }
}
