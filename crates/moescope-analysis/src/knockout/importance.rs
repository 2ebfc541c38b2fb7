//! What each expert is worth by itself, and how many can go.

use std::collections::BTreeMap;

use moescope_base::{Edit, FeedForwardShape, Seed, Subject, SubjectShape};
use rand::seq::SliceRandom;

use super::matched::{Loads, pool};
use super::passes::{Effects, Passes};
use super::{ExpertId, METHOD, Removal, edits};
use crate::statistics::{Bootstrap, Resampling, bootstrap};
use crate::{AnalysisError, Sample, check};

/// Most experts that are taken out one by one; of more, as many are drawn.
const MOST: usize = 128;
/// Experts of which the next to go is chosen.
const CANDIDATES: usize = 4;
/// Random orders beside the greedy one.
const ORDERS: usize = 3;

/// What each expert is worth, and what is left of the model when the cheapest go.
///
/// - **Unit and range:** nats per token of next-token loss, above 0 where the model is worse without the expert.
/// - **Null:** of one expert, the mean over others of its layer and of similar load; 0 exactly for an expert that no token chooses. Of
///   the curve, as many experts taken out in random orders.
/// - **Does not show:** what a model trained without the expert would lose; nor what two experts do for each other, of which
///   one alone can be spared.
/// - **Source:** knock-out of single units and cumulative curves against random ones, Meyes et al. 2019; pruning of experts
///   after training, Lu et al. 2024 (arXiv 2402.14800), there by the error of the layer's output.
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    /// Loss of the unedited model, nats per token.
    pub free_loss: Bootstrap,
    /// Experts, by layer and number.
    pub experts: Vec<ExpertImportance>,
    /// Ever more experts, in each step the cheapest beside those that are gone (greedy, of four candidates); the order is found on half of the documents, the loss on the others.
    pub curve: Vec<CurvePoint>,
}

/// One expert.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertImportance {
    /// Which.
    pub id: ExpertId,
    /// Share of tokens that choose it.
    pub load: f64,
    /// Change of the loss without it, with an interval over documents.
    pub loss: Bootstrap,
    /// Mean change without one other expert of the layer and of similar load.
    pub others: f64,
}

/// Some experts taken out together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// How many.
    pub removed: usize,
    /// Change of the loss without the cheapest, over documents that did not decide which these are.
    pub greedy: Bootstrap,
    /// The same without as many in random orders, mean over the orders.
    pub random: f64,
}

/// Takes out every expert by itself, then ever more together, greedily and in random orders.
///
/// # Errors
/// If the model has no routed layer or cannot answer, or there are fewer than four documents.
pub fn importance(
    subject: &mut dyn Subject,
    samples: &[Sample],
    resampling: Resampling,
    seed: Seed,
) -> Result<Importance, AnalysisError> {
    let ids = chosen(subject.shape(), seed);
    check::at_least(METHOD, "experts", ids.len(), 2)?;
    // Half of the experts: a model without all of them says nothing of any.
    let most = ids.len() / 2;
    let mut tell = |_: usize, _: usize| {};
    let mut passes = Passes::new(subject, samples, &mut tell)?;
    let loads = passes.loads(&ids)?;
    let singles: Vec<Vec<Edit>> = ids.iter().map(|id| edits(&[*id], Removal::Zero)).collect();
    let alone = passes.losses(&singles)?;
    check::at_least(METHOD, "documents", alone.tokens.len(), 4)?;
    // Documents in turn decide the order and judge it: the cheapest on the same text would look cheaper than they are.
    let (deciding, judging): (Vec<usize>, Vec<usize>) = (0..alone.tokens.len()).partition(|d| d % 2 == 0);
    let mut order: Vec<usize> = (0..ids.len()).collect();
    let cost = |expert: usize| per_token(&alone.loss[expert], &alone.tokens, &deciding);
    order.sort_by(|a, b| cost(*a).total_cmp(&cost(*b)).then(a.cmp(b)));
    let order = greedy(&mut passes, &ids, order, most, &deciding)?;
    let counts: Vec<usize> =
        std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|n| *n < most).chain([most]).collect();
    let orders = std::iter::once(order.clone()).chain((0..ORDERS).map(|draw| {
        let mut shuffled = order.clone();
        shuffled.shuffle(&mut seed.child("random orders").index(draw as u64).rng());
        shuffled
    }));
    let removed = |order: &[usize], count: usize| {
        let gone: Vec<ExpertId> = order[..count].iter().map(|expert| ids[*expert]).collect();
        edits(&gone, Removal::Zero)
    };
    let lists: Vec<Vec<Edit>> = orders
        .flat_map(|order| counts.iter().map(|count| removed(&order, *count)).collect::<Vec<_>>())
        .collect();
    let together = passes.losses(&lists)?;
    Ok(Importance {
        free_loss: over(&alone.free_loss, &alone.tokens, &all(&alone), resampling)?,
        experts: experts(&ids, &loads, &alone, resampling)?,
        curve: curve(&counts, &together, &judging, resampling)?,
    })
}

/// The same experts in the order in which they go: in each step, of the few that cost least by themselves, the one without which least is lost beside those that are
/// gone already.
///
/// Two experts of which either can be spared are cheap by themselves, and dear once the other is gone. The few are four, for a pass over all that are left
/// in each step would take as many passes as pairs of experts.
fn greedy(
    passes: &mut Passes<'_>,
    ids: &[ExpertId],
    mut order: Vec<usize>,
    most: usize,
    deciding: &[usize],
) -> Result<Vec<usize>, AnalysisError> {
    for step in 0..most.min(order.len() - 1) {
        let few = step..(step + CANDIDATES).min(order.len());
        let without = |candidate: usize| {
            let gone = order[..step].iter().chain([&order[candidate]]).map(|expert| ids[*expert]);
            edits(&gone.collect::<Vec<ExpertId>>(), Removal::Zero)
        };
        let tried = passes.losses(&few.clone().map(without).collect::<Vec<_>>())?;
        let cost = |at: &usize| per_token(&tried.loss[*at], &tried.tokens, deciding);
        let best = (0..few.len()).min_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap_or(0);
        // Those that were cheaper by themselves stay in their order behind it.
        order[step..=step + best].rotate_right(1);
    }
    Ok(order)
}

/// All experts, or as many as can be afforded, drawn.
fn chosen(shape: &SubjectShape, seed: Seed) -> Vec<ExpertId> {
    let of = |(layer, feed_forward): (usize, &FeedForwardShape)| match feed_forward {
        FeedForwardShape::Routed { experts, .. } => {
            (0..*experts).map(|expert| ExpertId { layer, expert }).collect::<Vec<_>>()
        }
        FeedForwardShape::Dense { .. } => Vec::new(),
    };
    let mut ids: Vec<ExpertId> = shape.feed_forward.iter().enumerate().flat_map(of).collect();
    if ids.len() > MOST {
        ids.shuffle(&mut seed.child("experts").rng());
        ids.truncate(MOST);
        ids.sort_unstable();
    }
    ids
}

fn all(effects: &Effects) -> Vec<usize> {
    (0..effects.tokens.len()).collect()
}

/// Mean over the tokens of some documents.
fn per_token(sums: &[f64], tokens: &[f64], documents: &[usize]) -> f64 {
    let total = |numbers: &[f64]| documents.iter().map(|document| numbers[*document]).sum::<f64>();
    total(sums) / total(tokens)
}

/// The same with an interval over these documents.
fn over(
    sums: &[f64],
    tokens: &[f64],
    documents: &[usize],
    resampling: Resampling,
) -> Result<Bootstrap, AnalysisError> {
    let of = |drawn: &[usize]| {
        let drawn: Vec<usize> = drawn.iter().map(|place| documents[*place]).collect();
        per_token(sums, tokens, &drawn)
    };
    bootstrap(documents.len(), of, resampling)
}

fn experts(
    ids: &[ExpertId],
    loads: &Loads,
    alone: &Effects,
    resampling: Resampling,
) -> Result<Vec<ExpertImportance>, AnalysisError> {
    let documents = all(alone);
    let places: BTreeMap<ExpertId, usize> = ids.iter().enumerate().map(|(place, id)| (*id, place)).collect();
    let mean = |place: usize| per_token(&alone.loss[place], &alone.tokens, &documents);
    let of = |(place, id): (usize, &ExpertId)| {
        let like = pool(&loads[&id.layer], *id, &[*id]);
        let others: Vec<f64> = like
            .into_iter()
            .filter_map(|expert| places.get(&ExpertId { layer: id.layer, expert }))
            .map(|place| mean(*place))
            .collect();
        Ok(ExpertImportance {
            id: *id,
            load: loads[&id.layer][id.expert],
            loss: over(&alone.loss[place], &alone.tokens, &documents, resampling)?,
            // NaN where no other was tried, which tables show as empty.
            others: others.iter().sum::<f64>() / others.len() as f64,
        })
    };
    ids.iter().enumerate().map(of).collect()
}

fn curve(
    counts: &[usize],
    together: &Effects,
    judging: &[usize],
    resampling: Resampling,
) -> Result<Vec<CurvePoint>, AnalysisError> {
    let of = |(place, removed): (usize, &usize)| {
        let random = (1..=ORDERS)
            .map(|order| per_token(&together.loss[order * counts.len() + place], &together.tokens, judging));
        Ok(CurvePoint {
            removed: *removed,
            greedy: over(&together.loss[place], &together.tokens, judging, resampling)?,
            random: random.sum::<f64>() / ORDERS as f64,
        })
    };
    counts.iter().enumerate().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::super::planted::{Planted, samples};
    use super::*;
    use crate::planted_model::{EXPERTS, model, own_text, rename, resampling};
    use crate::statistics::BootstrapMethod;
    use moescope_model::ModelSubject;

    fn run(subject: &mut Planted, documents: u32, seed: u64) -> Importance {
        let resampling = Resampling {
            replicates: 200,
            level: 0.95,
            method: BootstrapMethod::Percentile,
            seed: Seed(seed),
        };
        importance(subject, &samples(documents), resampling, Seed(seed)).unwrap()
    }

    #[test]
    fn the_expert_that_is_worth_something_is_found_and_the_others_are_worth_nothing() {
        let found = run(&mut Planted::new(), 12, 1);
        assert_eq!(found.experts.len(), 7);
        for expert in &found.experts {
            match expert.id.expert {
                2 => assert!(expert.loss.low > 0.0 && expert.others == 0.0, "{expert:?}"),
                _ => assert_eq!((expert.loss.low, expert.loss.estimate, expert.loss.high), (0.0, 0.0, 0.0)),
            }
        }
        // Three of seven can go for nothing; in random orders the one that matters is among them sometimes.
        assert_eq!(found.curve.iter().map(|point| point.removed).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(found.curve.iter().all(|point| point.greedy.high == 0.0));
        assert!(found.curve[2].random >= 0.0);
    }

    #[test]
    fn a_loss_by_hand() {
        let found = run(&mut Planted::new(), 12, 1);
        let sum = 3f64.exp() + 3.0;
        let predicted: Vec<u32> = samples(12).iter().flat_map(|s| s.tokens().ids()[..59].to_vec()).collect();
        let share = predicted.iter().filter(|id| **id == 2).count() as f64 / predicted.len() as f64;
        assert!((found.experts[2].loss.estimate - share * (4f64.ln() - (sum.ln() - 3.0))).abs() < 1e-6);
    }

    #[test]
    fn among_equals_the_cheapest_are_no_cheaper_than_random_ones() {
        let found = run(&mut Planted::equal(), 24, 2);
        for expert in found.experts.iter().filter(|expert| expert.load > 0.0) {
            assert!(
                (expert.loss.estimate / expert.load - found.experts[0].loss.estimate / found.experts[0].load)
                    .abs()
                    < 0.05
            );
        }
        // The idle expert goes first and costs nothing; from there on each costs what another does.
        let last = found.curve[2];
        assert!(last.greedy.estimate <= last.random && last.greedy.estimate > 0.0, "{last:?}");
    }

    #[test]
    fn of_two_that_stand_in_for_each_other_one_stays() {
        let found = run(&mut Planted::stand_ins(), 24, 3);
        let alone: Vec<f64> = found.experts.iter().map(|expert| expert.loss.estimate).collect();
        assert_eq!(alone[..2], [0.0, 0.0]);
        // The idle one goes with one of the two, and then one that is worth a little, though the other costs nothing alone.
        assert_eq!((found.curve[1].removed, found.curve[1].greedy.high), (2, 0.0));
        let third = found.curve[2].greedy;
        assert!(third.low > 0.0 && third.estimate < 1.5 * alone[2].max(alone[5]), "{third:?} {alone:?}");
    }

    #[test]
    fn experts_may_be_renamed() {
        let sample = [own_text(&model(1, 3, |_, _| {}), 24, 5)];
        let found = |change: fn(&str, &mut [f32])| {
            let mut subject = ModelSubject::new(model(1, 3, change));
            importance(&mut subject, &sample, resampling(1), Seed(1)).unwrap()
        };
        let (plain, turned) = (found(|_, _| {}), found(rename));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-5;
        for expert in &plain.experts {
            let name = (expert.id.expert + EXPERTS - 1) % EXPERTS;
            let twin = turned.experts.iter().find(|other| other.id.expert == name).unwrap();
            assert_eq!(expert.load, twin.load);
            assert!(near(expert.loss.estimate, twin.loss.estimate) && near(expert.loss.low, twin.loss.low));
        }
        for (point, twin) in plain.curve.iter().zip(&turned.curve) {
            assert!(near(point.greedy.estimate, twin.greedy.estimate), "{point:?} {twin:?}");
        }
        assert!(plain.experts.iter().any(|expert| expert.loss.low > 0.01), "something to tell");
    }

    #[test]
    fn too_few_documents_are_refused() {
        let resampling =
            Resampling { replicates: 10, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) };
        assert!(importance(&mut Planted::new(), &samples(3), resampling, Seed(1)).is_err());
    }
}
