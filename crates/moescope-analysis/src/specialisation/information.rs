use super::grouping::{Cells, Regrouping};
use super::joint_counts::{CountLogs, JointCounts};
use super::{Choices, Exchange, Labels};
use crate::AnalysisError;
use crate::routing::{NullComparison, Permutations};
use crate::statistics::Tail;

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
    // What is exchanged and counted together shall lie in one place of memory. Draws and sums are those of any other order, to the bit.
    let order = match (exchange, given) {
        (Exchange::Tokens, Some(given)) => Some(labels.order_within(given)),
        _ => None,
    };
    let lying = order.as_ref().map(|order| (labels.reordered(order), given.map(|g| g.reordered(order))));
    let (labels, given) = lying.as_ref().map_or((labels, given), |(labels, given)| (labels, given.as_ref()));
    let regrouping = Regrouping::new(labels, given, exchange)?;
    let slots = choices.iter().map(|c| c.tokens() * c.per_token()).max().unwrap_or(0);
    let counts = JointCounts::new(choices, regrouping.most_cells, order.as_deref());
    let logs = CountLogs::up_to(slots);
    // Exchanges stay within conditions, so that what is uncertain within these is the same in every draw.
    let given_condition = counts.uncertainties(&regrouping.conditions, &mut counts.room(), &logs);
    let told = |given_cell: Vec<i64>| -> Vec<f64> {
        let parts = given_condition.iter().zip(given_cell).zip(choices);
        // Rounding alone can make a zero negative.
        parts.map(|((s, g), c)| logs.bits((s - g).max(0)) / (c.tokens() * c.per_token()) as f64).collect()
    };
    let observed = told(counts.uncertainties(&regrouping.start, &mut counts.room(), &logs));
    let draws = permutations.draw(
        || (regrouping.room(), counts.room()),
        |(draw, room), rng| {
            regrouping.draw(draw, rng);
            told(counts.uncertainties(&draw.cells, room, &logs))
        },
    );
    let label_entropy = label_entropy(&regrouping, &logs);
    let test = |(i, observed): (usize, &f64)| {
        let null: Vec<f64> = draws.iter().map(|draw| draw[i]).collect();
        let information = NullComparison::new(*observed, &null, Tail::Greater);
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

/// Mean over tokens of what is uncertain of the label given the condition, bits.
fn label_entropy(regrouping: &Regrouping, logs: &CountLogs) -> f64 {
    let sum = |cells: &Cells| cells.sizes().into_iter().map(|size| logs.of(size as usize)).sum::<i64>();
    let units = sum(&regrouping.conditions) - sum(&regrouping.start);
    logs.bits(units.max(0)) / regrouping.start.of.len() as f64
}

fn positive_or_nan(x: f64) -> f64 {
    if x > 1e-12 { x } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use moescope_base::Seed;
    use proptest::prelude::*;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;

    fn run(
        codes: &[u32],
        label: &[u32],
        given: Option<&[u32]>,
        exchange: Exchange<'_>,
        seed: u64,
    ) -> InformationTest {
        let values = codes.iter().max().map_or(1, |m| *m as usize + 1);
        let choices = Choices::new(codes, codes.len() / label.len(), values).unwrap();
        let given = given.map(|g| Labels::new("given", g));
        let permutations = Permutations::new(39, Seed(seed));
        information(choices, &Labels::new("label", label), given.as_ref(), exchange, permutations).unwrap()
    }

    fn draw(n: usize, limit: u32, rng: &mut ChaCha8Rng) -> Vec<u32> {
        (0..n).map(|_| rng.random_range(0..limit)).collect()
    }

    #[test]
    fn hand_worked_cases() {
        let named = run(&[0, 0, 1, 1], &[7, 7, 3, 3], None, Exchange::Tokens, 0);
        assert_eq!((named.information.observed, named.label_entropy), (1.0, 1.0));
        // H(expert) = 1; in label 0 three of four slots agree, in label 1 likewise: 1 − H(1/4).
        let partial = run(&[0, 1, 0, 0, 1, 1, 0, 1], &[0, 0, 1, 1], None, Exchange::Tokens, 0);
        let (three, one) = (0.75f64, 0.25f64);
        let wanted = run(&[0, 0, 0, 1, 1, 1, 1, 0], &[0, 0, 0, 0, 1, 1, 1, 1], None, Exchange::Tokens, 0);
        assert!(
            (wanted.information.observed - (1.0 + three * three.log2() + one * one.log2())).abs() < 1e-12
        );
        // Label 0 has experts 0, 1, 0, 0 and label 1 has 1, 1, 0, 1 over two slots each.
        assert!((partial.information.observed - wanted.information.observed).abs() < 1e-12);
        // Given the label there is nothing left.
        let given = run(&[0, 0, 1, 1], &[7, 7, 3, 3], Some(&[7, 7, 3, 3]), Exchange::Tokens, 0);
        assert_eq!((given.information.observed, given.label_entropy, given.excess()), (0.0, 0.0, 0.0));
        assert!(given.share().is_nan());
    }

    #[test]
    fn a_router_that_reads_the_domain_is_found_with_and_without_the_token() {
        let mut rng = Seed(1).rng();
        let (domain, token) = (draw(400, 2, &mut rng), draw(400, 5, &mut rng));
        let experts: Vec<u32> = domain.iter().map(|d| 2 * d + rng.random_range(0..2u32)).collect();
        for given in [None, Some(&token[..])] {
            let test = run(&experts, &domain, given, Exchange::Tokens, 1);
            assert!(test.information.p_value <= 0.025 && test.share() > 0.9 && test.adjusted_share() > 0.95);
        }
    }

    #[test]
    fn a_router_that_reads_only_the_token_knows_the_domain_only_through_the_token() {
        let mut rng = Seed(2).rng();
        let domain = draw(600, 2, &mut rng);
        // Domains share tokens 2 and 3; 0 and 4 are their own.
        let token: Vec<u32> = domain.iter().map(|d| 2 * d + rng.random_range(0..3u32)).collect();
        let test = run(&token, &domain, None, Exchange::Tokens, 1);
        assert!(test.information.p_value <= 0.025 && test.share() > 0.2);
        let given = run(&token, &domain, Some(&token), Exchange::Tokens, 1);
        assert_eq!((given.excess(), given.information.p_value), (0.0, 1.0));
    }

    #[test]
    fn nothing_is_found_at_more_than_the_stated_rate() {
        let p_value = |seed, conditional: bool| {
            let mut rng = Seed(seed).rng();
            let (label, token) = (draw(80, 3, &mut rng), draw(80, 6, &mut rng));
            // Experts depend on the token, the label on nothing.
            let experts: Vec<u32> = token.iter().map(|t| t / 2 + rng.random_range(0..2u32)).collect();
            let test = run(&experts, &label, conditional.then_some(&token[..]), Exchange::Tokens, seed);
            test.information.p_value
        };
        for conditional in [false, true] {
            let rate = planted::rejection_rate(200, |seed| p_value(seed, conditional));
            assert!(rate <= planted::HIGHEST_RATE, "{rate}");
        }
    }

    #[test]
    fn the_excess_of_many_values_is_not_biased() {
        // Almost as many values as tokens: plug-in information is near the entropy of the label.
        let excess: Vec<f64> = (0..40)
            .map(|seed| {
                let mut rng = Seed(seed).rng();
                let test =
                    run(&draw(100, 150, &mut rng), &draw(100, 2, &mut rng), None, Exchange::Tokens, seed);
                assert!(test.information.observed > 0.5);
                test.excess()
            })
            .collect();
        assert!((excess.iter().sum::<f64>() / 40.0).abs() < 0.02);
    }

    #[test]
    fn documents_that_stick_to_experts_fool_tokens_but_not_documents() {
        // Each document has an expert of its own taste, unrelated to its domain.
        let case = |seed: u64| {
            let mut rng = Seed(seed).rng();
            let documents: Vec<u32> = (0..200).map(|t| t / 20).collect();
            let (domain, taste) = (draw(10, 2, &mut rng), draw(10, 4, &mut rng));
            let of = |per_document: &[u32]| -> Vec<u32> {
                documents.iter().map(|d| per_document[*d as usize]).collect()
            };
            (of(&taste), of(&domain), documents.clone())
        };
        let tokens = |seed| {
            let (experts, domain, _) = case(seed);
            run(&experts, &domain, None, Exchange::Tokens, seed).information.p_value
        };
        let whole = |seed| {
            let (experts, domain, documents) = case(seed);
            run(&experts, &domain, None, Exchange::Documents(&documents), seed).information.p_value
        };
        assert!(planted::rejection_rate(200, tokens) > 0.8);
        let rate = planted::rejection_rate(200, whole);
        assert!(rate <= planted::HIGHEST_RATE, "{rate}");
    }

    #[test]
    fn inputs_of_unequal_length_and_empty_ones_are_refused() {
        let choices = Choices::new(&[0, 1], 1, 2).unwrap();
        let permutations = Permutations::new(9, Seed(0));
        let ask = |choices, label: &[u32], permutations| {
            information(choices, &Labels::new("x", label), None, Exchange::Tokens, permutations)
        };
        assert!(ask(choices, &[0, 1, 1], permutations).is_err());
        assert!(ask(Choices::new(&[], 1, 2).unwrap(), &[], permutations).is_err());
        assert!(ask(choices, &[0, 1], Permutations::new(0, Seed(0))).is_err());
    }

    proptest! {
        #[test]
        fn names_do_not_change_a_bit_and_order_not_the_estimate(seed in 0u64..500) {
            let mut rng = Seed(seed).rng();
            let (experts, label, token) = (draw(60, 5, &mut rng), draw(60, 3, &mut rng), draw(60, 4, &mut rng));
            let own = run(&experts, &label, Some(&token), Exchange::Tokens, seed);
            let renamed: Vec<u32> = experts.iter().map(|e| (e * 3 + 1) % 5).collect();
            let other = run(&renamed, &label, Some(&token), Exchange::Tokens, seed);
            prop_assert_eq!(own, other);
            let turn = |x: &[u32]| x.iter().rev().copied().collect::<Vec<u32>>();
            let other = run(&turn(&experts), &turn(&label), Some(&turn(&token)), Exchange::Tokens, seed);
            prop_assert!((own.information.observed - other.information.observed).abs() < 1e-12);
            prop_assert!((own.label_entropy - other.label_entropy).abs() < 1e-12);
        }

        #[test]
        fn information_stays_below_the_entropy_of_the_label(seed in 0u64..200) {
            let mut rng = Seed(seed).rng();
            let test = run(&draw(40, 30, &mut rng), &draw(40, 3, &mut rng), None, Exchange::Tokens, seed);
            prop_assert!(test.information.observed <= test.label_entropy + 1e-12);
        }
    }
}
