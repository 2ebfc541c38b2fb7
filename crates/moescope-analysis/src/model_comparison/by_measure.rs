//! How alike single experts of two models answer by all six measures, as they are named and as linear CKA matched them.

use moescope_base::{Column, Subject, Table};

use crate::AnalysisError;
use crate::depth::spread_over;
use crate::expert_representation::answers::{Asked, routed};
use crate::expert_representation::varies;
use crate::matrix::Features;
use crate::routing::Permutations;
use crate::similarity::{Measure, Parts, compared_mutually};
use crate::statistics::{Bootstrap, jackknife, mean};
use crate::tabulate::bootstrap_columns;

/// Experts of each layer, at most, spread over their numbers.
pub(super) const EXPERTS: usize = 4;
/// Shuffles behind each null, at most.
const SHUFFLES: usize = 5;

/// Likeness of some experts of a layer to their partners in another model, by one measure.
///
/// - **Unit and range:** pure number, as of [`Measure`]; 1 for answers that differ by a rotation and a scale (RSA: by a scale alone).
/// - **Null:** the tokens of the other model shuffled, partners kept.
/// - **Does not show:** what the other experts of the layer do; nor another matching than that by linear CKA.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PairedLikeness {
    /// Block of the first model.
    pub(super) layer: usize,
    /// Whether partners are those that were matched; if not, those of the same name.
    pub(super) matched: bool,
    /// How they are compared.
    pub(super) measure: Measure,
    /// Mean over the experts, interval over the documents that decided no matching.
    pub(super) likeness: Bootstrap,
    /// The same with the tokens of the other model shuffled.
    pub(super) shuffled: f64,
    /// Experts.
    pub(super) experts: usize,
}

/// The experts that are compared by all measures.
pub(super) fn chosen(experts: usize) -> Vec<usize> {
    spread_over(experts, EXPERTS).collect()
}

/// What some experts of a layer answer: `[expert][token, d_model]`.
///
/// # Errors
/// If the subject cannot answer.
pub(super) fn answers(
    subject: &mut (dyn Subject + Send),
    asked: &Asked,
    layer: usize,
    experts: &[usize],
) -> Result<Vec<Features>, AnalysisError> {
    let per_token = routed(subject.shape(), layer).1.max(1);
    let mut found = Vec::new();
    for group in experts.chunks(per_token) {
        found.extend(asked.answers(subject, layer, group)?);
    }
    Ok(found)
}

/// Compares experts with their partners on tokens of documents that decided no matching, by all measures; pairs for which a measure is not
/// defined are left out.
///
/// `own[expert]` and `theirs[expert]` are `[token, d_model]` on all tokens; `judging` are those that count, `documents` theirs.
///
/// # Errors
/// With fewer than four documents.
pub(super) fn paired(
    (layer, matched): (usize, bool),
    own: &[Features],
    theirs: &[Features],
    (judging, documents): (&[usize], &[u32]),
    permutations: Permutations,
) -> Result<Vec<PairedLikeness>, AnalysisError> {
    let parts = Parts::new(documents)?;
    // An expert that answers the same to every token is like none, by no measure.
    let told = |answers: &Features| varies(&answers.select(judging));
    let both: Vec<(&Features, &Features)> =
        own.iter().zip(theirs).filter(|(one, two)| told(one) && told(two)).collect();
    let prepare = |answers: &Features| parts.prepare(&answers.select(judging));
    let (own, theirs): (Vec<_>, Vec<_>) =
        both.into_iter().map(|(one, two)| (prepare(one), prepare(two))).unzip();
    let permutations = Permutations { count: permutations.count.min(SHUFFLES), ..permutations };
    let mut found = Vec::new();
    for measure in Measure::ALL {
        let mut pairs = Vec::new();
        for (at, (one, two)) in own.iter().zip(&theirs).enumerate() {
            match compared_mutually(one, two, measure, permutations.index(at)) {
                Err(AnalysisError::NotFinite { .. }) => {}
                other => pairs.push(other?),
            }
        }
        if pairs.is_empty() {
            continue;
        }
        let over = |of: &dyn Fn(&crate::similarity::Compared) -> f64| {
            mean(&pairs.iter().map(of).collect::<Vec<f64>>())
        };
        let without: Vec<f64> =
            (0..pairs[0].without.len()).map(|group| over(&|pair| pair.without[group])).collect();
        found.push(PairedLikeness {
            layer,
            matched,
            measure,
            likeness: jackknife(over(&|pair| pair.observed), &without, parts.documents),
            shuffled: over(&|pair| mean(&pair.draws)),
            experts: pairs.len(),
        });
    }
    Ok(found)
}

/// One row for each other model, layer, measure and way of pairing.
pub(super) fn table(found: &[(String, PairedLikeness)]) -> Result<Table, AnalysisError> {
    let text = |of: &dyn Fn(&PairedLikeness) -> &'static str| {
        found.iter().map(|row| of(&row.1).to_owned()).collect::<Vec<String>>()
    };
    let integer = |of: fn(&PairedLikeness) -> usize| found.iter().map(|row| of(&row.1) as i64).collect();
    let mut columns = vec![
        Column::key("other", "model that is compared", found.iter().map(|row| row.0.clone()).collect()),
        Column::integer_key("layer", "", "block", integer(|row| row.layer)),
        Column::key("measure", "how they are compared", text(&|row| row.measure.name())),
        Column::key(
            "experts",
            "which experts of the other model stand beside",
            text(&|row| if row.matched { "matched" } else { "as named" }),
        ),
    ];
    let values: Vec<Bootstrap> = found.iter().map(|row| row.1.likeness).collect();
    let meaning = "mean over pairs; 1 where answers differ by a rotation and a scale (RSA: by a scale alone)";
    columns.extend(bootstrap_columns("likeness", "", meaning, &values));
    let null = found.iter().map(|row| row.1.shuffled).collect();
    columns.push(Column::null("likeness", "", "tokens of the other model shuffled, partners kept", null));
    columns.push(Column::count("pairs", "pairs", "of experts", integer(|row| row.experts)));
    let method = "At most four experts of each layer of the first model, spread over their numbers. Matched by linear CKA on every second document; all measures judge on \
                  the others, with intervals by leaving out groups of documents in turn. Does not show what a matching by another measure would give.";
    let title = "How alike experts of two models answer, by six measures";
    Ok(Table::new("expert_alignment_measures", title, method, columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{normal, random_rotation};
    use crate::routing::planted;
    use moescope_base::Seed;

    const TOKENS: usize = 48;

    fn noise(seed: u64) -> Features {
        let mut rng = Seed(seed).rng();
        Features::new(4, &(0..TOKENS * 4).map(|_| normal(&mut rng)).collect::<Vec<_>>()).unwrap()
    }

    fn compare(own: &[Features], theirs: &[Features], seed: u64) -> Vec<PairedLikeness> {
        let judging: Vec<usize> = (0..TOKENS).collect();
        let documents: Vec<u32> = (0..TOKENS as u32).map(|token| token / 4).collect();
        let draws = Permutations::new(5, Seed(seed));
        paired((3, true), own, theirs, (&judging, &documents), draws).unwrap()
    }

    #[test]
    fn turned_experts_are_one_by_every_measure_and_strangers_by_none() {
        let own: Vec<Features> = (0..2).map(noise).collect();
        let turned: Vec<Features> = own
            .iter()
            .enumerate()
            .map(|(at, answers)| answers.rotate(&(2.0 * random_rotation(4, Seed(at as u64)))).unwrap())
            .collect();
        for row in compare(&own, &turned, 1) {
            // Correlation distance takes the mean over coordinates off, which a rotation does not keep.
            let least = if row.measure == Measure::Rsa { 0.5 } else { 1.0 - 1e-6 };
            assert!(row.likeness.estimate > least, "{row:?}");
            assert!(row.shuffled < 0.6 && row.experts == 2 && row.layer == 3 && row.matched, "{row:?}");
        }
        for row in compare(&own, &[noise(7), noise(8)], 1) {
            assert!(row.likeness.estimate < 0.6, "{row:?}");
        }
    }

    #[test]
    fn unrelated_experts_stand_above_their_null_at_the_stated_rate() {
        let rows = |seed: u64| compare(&[noise(10_000 + seed)], &[noise(20_000 + seed)], seed);
        for at in 0..Measure::ALL.len() {
            // Above by interval is one of two sides of 95 %.
            let above = planted::rejection_rate(200, |seed| {
                let row = rows(seed)[at];
                if row.likeness.low > row.shuffled { 0.0 } else { 1.0 }
            });
            assert!(above < 0.10, "{:?}: {above}", Measure::ALL[at]);
        }
    }

    #[test]
    fn an_expert_that_answers_nothing_is_left_out_and_chosen_ones_are_spread() {
        let nothing = Features::new(4, &[0.0; 4 * TOKENS]).unwrap();
        let found = compare(&[noise(1), nothing], &[noise(1), noise(2)], 1);
        assert!(
            found.iter().all(|row| row.experts == 1 && (row.likeness.estimate - 1.0).abs() < 1e-6),
            "{found:?}"
        );
        assert_eq!((chosen(2), chosen(64)), (vec![0, 1], vec![8, 24, 40, 56]));
    }
}
