//! How alike the experts of two models answer, as they are named and matched.

use nalgebra::DMatrix;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use crate::assignment::assignment;
use crate::matrix::{Features, product_by_column};
use crate::routing::Permutations;
use crate::statistics::{Bootstrap, jackknife};
use crate::{AnalysisError, check};

/// Its name in messages and seeds.
pub(super) const METHOD: &str = "alignment of experts";
/// Groups of documents that are left out in turn.
const GROUPS: usize = 10;

/// How alike the experts of a layer of two models answer the same tokens, before and after they are matched one to one.
///
/// - **Unit and range:** mean over experts of the unbiased linear CKA of their answers: 1 for answers that differ by a rotation and a scale, around
///   0 for unrelated ones. An expert that answers the same to every token is like none: 0. `matched` names the experts of the second model anew, by
///   the assignment of largest sum over every second document, and is the mean over the other documents.
/// - **Null:** of `matched`, the tokens of the second model exchanged and its experts matched anew. Of `named`, `any`: the mean over all pairs
///   of experts, which a naming at random has on average. Experts that read alike answer alike without having learned anything: `any` tells how much.
/// - **Does not show:** that matched experts are used alike: all answer all tokens, most of which a router would not have sent to them.
/// - **Source:** units of two networks matched by what they answer, Li et al. 2016 (arXiv 1511.07543); CKA, Kornblith et al. 2019, unbiased
///   (Song et al. 2012; as a cosine of doubly centred kernels, Székely and Rizzo 2014).
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertAlignment {
    /// Block of the first model.
    pub layer: usize,
    /// Block of the second.
    pub other: usize,
    /// Experts of each.
    pub experts: usize,
    /// By the names that experts have, interval over documents (jackknife over groups, Student's t).
    pub named: Bootstrap,
    /// Mean over all pairs.
    pub any: f64,
    /// With experts matched on other documents.
    pub matched: Bootstrap,
    /// Mean of the same with the tokens of the second model exchanged.
    pub shuffled: f64,
    /// Share of all, the observed one among them, that are at least as large.
    pub p_value: f64,
    /// Of each expert of the first model the one of the second that it is matched to: `[expert]`.
    pub partners: Vec<usize>,
}

impl ExpertAlignment {
    /// Experts that keep their name when they are matched.
    pub fn kept(&self) -> usize {
        self.partners.iter().enumerate().filter(|(own, partner)| own == *partner).count()
    }
}

/// What the experts of a layer answer to the same tokens, as products of the answers: `[expert][token, token]`.
#[derive(Clone, Debug, Default)]
pub struct ExpertKernels(Vec<DMatrix<f64>>);

impl ExpertKernels {
    /// Adds the next expert, with its `answers[token, d_model]`.
    pub fn push(&mut self, answers: &Features) {
        let centred = answers.centred();
        self.0.push(product_by_column(centred.transposed(), centred.transposed()));
    }

    /// The kernels on these tokens, in this order, such that their products are unbiased CKA: `[pair of tokens, expert]`.
    fn directions(&self, tokens: &[usize]) -> DMatrix<f64> {
        let columns: Vec<Vec<f64>> = self.0.par_iter().map(|kernel| direction(kernel, tokens)).collect();
        DMatrix::from_vec(tokens.len() * (tokens.len() - 1) / 2, self.0.len(), columns.concat())
    }
}

/// A kernel without its diagonal, doubly centred without bias, each pair of tokens once, of length one; zero where nothing varies.
fn direction(kernel: &DMatrix<f64>, tokens: &[usize]) -> Vec<f64> {
    let n = tokens.len();
    let at = |i: usize, j: usize| kernel[(tokens[i], tokens[j])];
    let sum = |i: usize| (0..n).filter(|j| *j != i).map(|j| at(i, j)).sum::<f64>();
    let sums: Vec<f64> = (0..n).map(sum).collect();
    let (count, all) = (n as f64, sums.iter().sum::<f64>());
    let mean = all / ((count - 1.0) * (count - 2.0));
    let centred = |(i, j): (usize, usize)| at(i, j) - (sums[i] + sums[j]) / (count - 2.0) + mean;
    let mut found: Vec<f64> = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(centred).collect();
    let length = found.iter().map(|x| x * x).sum::<f64>().sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    found.iter_mut().for_each(|x| *x *= scale);
    found
}

/// Compares one layer of each model; `documents` are those of the tokens.
///
/// # Errors
/// If the numbers of experts differ or are 0, there are fewer than eight documents, or a half of them has fewer than eight tokens.
pub fn expert_alignment(
    (layer, first): (usize, &ExpertKernels),
    (other, second): (usize, &ExpertKernels),
    documents: &[u32],
    permutations: Permutations,
) -> Result<ExpertAlignment, AnalysisError> {
    let (experts, theirs) = (first.0.len(), second.0.len());
    check::at_least(METHOD, "experts", experts, 1)?;
    let told = format!("{experts} in one model and {theirs} in the other");
    let wanted = "one number in both: experts are matched one to one";
    check::in_range(METHOD, "number of experts in one block", told, experts == theirs, wanted)?;
    permutations.check(METHOD)?;
    let halves = Halves::new(documents)?;
    let own = [&halves.deciding, &halves.judging].map(|tokens| first.directions(tokens));
    let seen = halves.matched(&own, second, &halves.deciding, &halves.judging);
    let draws = permutations.draw(
        || (),
        |(), rng| {
            let mut exchanged = [halves.deciding.clone(), halves.judging.clone()];
            exchanged.iter_mut().for_each(|tokens| tokens.shuffle(rng));
            halves.matched(&own, second, &exchanged[0], &exchanged[1]).mean
        },
    );
    let above = draws.iter().filter(|draw| **draw >= seen.mean - 1e-12).count();
    let as_named: Vec<usize> = (0..experts).collect();
    let matched = halves.interval(first, second, &seen.partners);
    Ok(ExpertAlignment {
        layer,
        other,
        experts,
        named: halves.interval(first, second, &as_named),
        any: seen.any,
        matched,
        shuffled: draws.iter().sum::<f64>() / draws.len() as f64,
        p_value: (1 + above) as f64 / (1 + draws.len()) as f64,
        partners: seen.partners,
    })
}

/// A matching and how alike the matched are on other tokens.
struct Matched {
    /// Of each expert of the first model, that of the second.
    partners: Vec<usize>,
    mean: f64,
    /// Mean over all pairs, on the same tokens.
    any: f64,
}

/// Tokens of every second document, which decide a matching, and of the others, which judge it.
pub(super) struct Halves {
    deciding: Vec<usize>,
    pub(super) judging: Vec<usize>,
    /// Document of each token that judges, numbered from 0.
    places: Vec<usize>,
    documents: usize,
}

impl Halves {
    /// From the documents of all tokens.
    ///
    /// # Errors
    /// With fewer than eight documents, or fewer than eight tokens in a half of them.
    pub(super) fn new(documents: &[u32]) -> Result<Halves, AnalysisError> {
        let mut names = documents.to_vec();
        names.sort_unstable();
        names.dedup();
        check::at_least(METHOD, "documents", names.len(), 8)?;
        let place = |token: &usize| names.binary_search(&documents[*token]).expect("a document of the list");
        let (deciding, judging): (Vec<usize>, Vec<usize>) =
            (0..documents.len()).partition(|token| place(token).is_multiple_of(2));
        for half in [&deciding, &judging] {
            check::at_least(METHOD, "tokens in a half of the documents", half.len(), 8)?;
        }
        let places = judging.iter().map(|token| place(token) / 2).collect();
        Ok(Halves { deciding, judging, places, documents: names.len() / 2 })
    }

    /// Matches on some tokens and judges on others, those of the second model in this order.
    fn matched(
        &self,
        own: &[DMatrix<f64>; 2],
        second: &ExpertKernels,
        deciding: &[usize],
        judging: &[usize],
    ) -> Matched {
        // Stored by column, so that the products of one expert of the first model stand together.
        let gain = product_by_column(&second.directions(deciding), &own[0]);
        let partners = assignment(gain.as_slice(), gain.nrows());
        let judged = product_by_column(&second.directions(judging), &own[1]);
        let of = partners.iter().enumerate().map(|(own, partner)| judged[(*partner, own)]);
        Matched { mean: of.sum::<f64>() / partners.len() as f64, any: judged.mean(), partners }
    }

    /// Mean likeness of these partners over the documents that judge.
    fn interval(&self, first: &ExpertKernels, second: &ExpertKernels, partners: &[usize]) -> Bootstrap {
        let groups = self.documents.min(GROUPS);
        let without = |left_out: usize| {
            // In turn: neighbours may be of one domain, and would leave it out as a whole.
            let group = |place: usize| place % groups;
            let kept = self.judging.iter().zip(&self.places).filter(|(_, place)| group(**place) != left_out);
            let tokens: Vec<usize> = kept.map(|(token, _)| *token).collect();
            let (own, theirs) = (first.directions(&tokens), second.directions(&tokens));
            let pairs = partners.iter().enumerate();
            pairs.map(|(own_at, at)| own.column(own_at).dot(&theirs.column(*at))).sum::<f64>()
                / partners.len() as f64
        };
        let left: Vec<f64> = (0..groups).map(without).collect();
        // No group has the last number.
        jackknife(without(groups), &left, self.documents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{normal, random_rotation};
    use crate::routing::planted;
    use crate::similarity::cka;
    use moescope_base::Seed;

    const TOKENS: usize = 64;

    fn noise(width: usize, seed: u64) -> Features {
        let mut rng = Seed(seed).rng();
        Features::new(width, &(0..TOKENS * width).map(|_| normal(&mut rng)).collect::<Vec<_>>()).unwrap()
    }

    fn kernels(experts: impl IntoIterator<Item = Features>) -> ExpertKernels {
        let mut kernels = ExpertKernels::default();
        experts.into_iter().for_each(|answers| kernels.push(&answers));
        kernels
    }

    /// Four experts from seeds that follow this one.
    fn drawn(seed: u64) -> Vec<Features> {
        (0..4).map(|expert| noise(3, 10 * seed + expert)).collect()
    }

    fn align(first: &ExpertKernels, second: &ExpertKernels, draws: usize, seed: u64) -> ExpertAlignment {
        let documents: Vec<u32> = (0..TOKENS as u32).map(|token| token / 4).collect();
        expert_alignment((1, first), (2, second), &documents, Permutations::new(draws, Seed(seed))).unwrap()
    }

    #[test]
    fn products_of_directions_are_unbiased_cka_and_four_tokens_come_out_by_hand() {
        let (a, b) = (noise(3, 1), noise(5, 2));
        let tokens: Vec<usize> = (0..TOKENS).collect();
        let found = product_by_column(
            &kernels([a.clone()]).directions(&tokens),
            &kernels([b.clone()]).directions(&tokens),
        );
        assert!((found[(0, 0)] - cka(&a, &b).unwrap()).abs() < 1e-12);
        // Signs (1, −1, 1, −1): products off the diagonal are ±1, every row sums to −1 and all to −4, so that each product is
        // moved by 1 / 2 + 1 / 2 − 4 / 6: two of 4 / 3 and four of −2 / 3, of length √(16 / 3).
        let signs = Features::new(1, &[1.0, -1.0, 1.0, -1.0]).unwrap();
        let found = kernels([signs]).directions(&[0, 1, 2, 3]);
        let scale = (16.0 / 3.0_f64).sqrt();
        let wanted = [-2.0, 4.0, -2.0, -2.0, 4.0, -2.0].map(|x| x / 3.0 / scale);
        assert!(found.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-12), "{found}");
    }

    #[test]
    fn renamed_and_turned_experts_are_one_once_matched_and_not_before() {
        let own = drawn(1);
        let turn = |(at, answers): (usize, &Features)| {
            answers.rotate(&(3.0 * random_rotation(3, Seed(at as u64)))).unwrap()
        };
        let turned: Vec<Features> = own.iter().enumerate().map(turn).collect();
        let renamed = [2, 3, 1, 0].map(|expert| turned[expert].clone());
        let found = align(&kernels(own.clone()), &kernels(renamed), 39, 1);
        assert!((found.matched.estimate - 1.0).abs() < 1e-9 && found.matched.low > 0.999, "{found:?}");
        assert!(found.named.high < 0.5 && found.shuffled < 0.5, "{found:?}");
        assert_eq!((found.p_value, found.kept(), found.experts), (1.0 / 40.0, 0, 4));
        // As named, nothing has to be matched.
        let same = align(&kernels(own), &kernels(turned), 9, 1);
        assert_eq!(same.kept(), 4);
        assert!((same.named.estimate - 1.0).abs() < 1e-9 && same.any < 0.6, "{same:?}");
    }

    #[test]
    fn unrelated_experts_are_called_alike_at_the_stated_rate() {
        let rate = planted::rejection_rate(200, |seed| {
            align(&kernels(drawn(1000 + seed)), &kernels(drawn(5000 + seed)), 19, seed).p_value
        });
        // Of 200 tests at 5 %, 22 and more reject in less than 1 of 1,000 cases.
        assert!(rate < 0.11, "{rate}");
    }

    #[test]
    fn the_names_of_the_other_models_experts_do_not_matter_once_matched() {
        let (own, other) = (drawn(3), drawn(3).into_iter().zip(drawn(4)));
        // Half of each answer is that of the first model's expert.
        let near: Vec<Features> = other
            .map(|(a, b)| {
                let values: Vec<f64> = (0..TOKENS)
                    .flat_map(|t| a.row(t).iter().zip(b.row(t)).map(|(a, b)| a + b).collect::<Vec<f64>>())
                    .collect();
                Features::new(3, &values).unwrap()
            })
            .collect();
        let renamed: Vec<Features> = [3, 0, 2, 1].map(|expert| near[expert].clone()).into();
        let (own, near, renamed) = (kernels(own), kernels(near), kernels(renamed));
        let (plain, other) = (align(&own, &near, 9, 1), align(&own, &renamed, 9, 1));
        assert!((plain.matched.estimate - other.matched.estimate).abs() < 1e-9 && plain.kept() == 4);
        assert!((plain.any - other.any).abs() < 1e-9 && plain.matched.estimate > 0.2, "{plain:?}");
    }

    #[test]
    fn an_expert_that_answers_nothing_is_like_none_and_other_numbers_are_refused() {
        let nothing = Features::new(3, &[0.0; 3 * TOKENS]).unwrap();
        let mut one = drawn(1);
        one[2] = nothing;
        let found = align(&kernels(one.clone()), &kernels(one.clone()), 3, 1);
        assert!((found.named.estimate - 0.75).abs() < 1e-9, "{found:?}");
        let (own, few) = (kernels(one.clone()), kernels(one[..3].to_vec()));
        let refused = |second: &ExpertKernels, documents: &[u32]| {
            expert_alignment((0, &own), (0, second), documents, Permutations::new(3, Seed(1))).is_err()
        };
        assert!(refused(&few, &(0..TOKENS as u32).collect::<Vec<u32>>()) && refused(&own, &[0; TOKENS]));
    }
}
