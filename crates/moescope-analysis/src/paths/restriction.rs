use std::collections::BTreeMap;

use moescope_base::{Column, Edit, Request, RouteEdit, Seed, Subject, Table, Tokens};
use moescope_trace::RoutingTrace;
use rand::seq::SliceRandom;

use super::coverage::by_use;
use super::{Interned, PathKind, Paths};
use crate::routing::Permutations;
use crate::statistics::{Summary, one_sample};
use crate::{AnalysisError, check};

const METHOD: &str = "restriction";

/// Tokens on which a restricted model is judged.
#[derive(Clone, Debug)]
pub struct EvaluationBatch {
    /// Input.
    pub tokens: Tokens,
    /// Document of each token: `documents[batch * positions + pos]`.
    pub documents: Vec<u32>,
}

/// Which sets of a layer stay allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetChoice {
    /// The most used.
    MostUsed,
    /// Drawn at random among those that were used: the control.
    Random {
        /// Number of the draw.
        draw: usize,
    },
}

/// Sets of experts that one layer may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSets {
    /// Block.
    pub layer: usize,
    /// Experts of each set, ascending: `sets[rank]`, the most used first.
    pub sets: Vec<Vec<u32>>,
}

/// How many paths to leave, and how often to draw the control.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Sets left in every routed layer, one run for each entry; a layer that used fewer keeps all that it used.
    pub sets: Vec<usize>,
    /// Control draws for each entry of `sets` (may be 0), and their seed.
    pub controls: Permutations,
}

/// Loss under one restriction.
#[derive(Clone, Debug, PartialEq)]
pub struct RestrictionPoint {
    /// Sets asked for in every layer.
    pub sets: usize,
    /// How the sets were picked.
    pub choice: SetChoice,
    /// log2 of the number of paths left: sum over layers of log2 of the sets left.
    pub paths_log2: f64,
    /// Share of the training tokens whose sets were all still allowed.
    pub covered: f64,
    /// Mean loss over evaluation tokens, nats.
    pub loss: f64,
    /// Loss minus loss of the unrestricted run, over documents, nats per token: each document counts once.
    pub difference: Summary,
    /// The same difference of each document: `(document, nats per token)`, by document.
    pub by_document: Vec<(u32, f64)>,
}

/// Loss against the number of sets that every routed layer may use.
#[derive(Clone, Debug, PartialEq)]
pub struct RestrictionReport {
    /// Mean loss of the unrestricted run over evaluation tokens, nats.
    pub free_loss: f64,
    /// Loss of the unrestricted run for each document: `(document, nats per token)`, by document.
    pub free_by_document: Vec<(u32, f64)>,
    /// For each budget the most used sets, then the control draws.
    pub points: Vec<RestrictionPoint>,
}

/// Restricts every routed layer to few sets of experts at fixed weights, and reports what that costs.
///
/// For each budget K the model runs over the evaluation tokens with only the K most used sets of each layer allowed
/// (found in `training`, a trace of other text), then with K sets drawn at random among the used ones. Differences are
/// taken document by document; the first token of a document has no loss of its own and is left out.
///
/// - **Unit:** nats per token; 0 if the lost paths did nothing. Below 0 is possible.
/// - **Null:** the control shows what any K sets cost; its excess is what choosing the sets by use saves.
/// - **Does not show:** what a model *trained* with few paths would lose; it could adapt.
/// - **Source:** path caps of PathMoE (arXiv 2603.18297), here with a control and intervals over documents.
///
/// # Errors
/// If there are fewer than two documents, lengths differ, a budget is 0, or the model refuses the edit.
pub fn restriction(
    subject: &mut dyn Subject,
    training: &RoutingTrace,
    evaluation: &[EvaluationBatch],
    budget: &Budget,
) -> Result<RestrictionReport, AnalysisError> {
    let menu = Menu::of(training)?;
    let free = run(subject, evaluation, &[])?;
    let mut points = Vec::new();
    for sets in &budget.sets {
        let draws = (0..budget.controls.count).map(|draw| SetChoice::Random { draw });
        for choice in std::iter::once(SetChoice::MostUsed).chain(draws) {
            let stream = match choice {
                SetChoice::MostUsed => None,
                SetChoice::Random { draw } => Some(budget.stream(*sets, draw)),
            };
            let allowed = menu.pick(*sets, stream)?;
            let restricted = run(subject, evaluation, &menu.edits(&allowed))?;
            points.push(compare(&menu, &allowed, *sets, choice, &free, &restricted)?);
        }
    }
    Ok(RestrictionReport { free_loss: free.mean(), free_by_document: free.by_document(), points })
}

/// The most used sets of every routed layer.
///
/// Layers that used fewer than `most_used` sets give all of theirs.
///
/// # Errors
/// If the trace has no token or no routed layer, or `most_used` is 0.
pub fn most_used_sets(trace: &RoutingTrace, most_used: usize) -> Result<Vec<LayerSets>, AnalysisError> {
    let menu = Menu::of(trace)?;
    let allowed = menu.pick(most_used, None)?;
    Ok(menu.sets(&allowed))
}

impl Budget {
    /// Seed of one control draw.
    fn stream(&self, sets: usize, draw: usize) -> Seed {
        self.controls.seed.child("allowed sets").index(sets as u64).index(draw as u64)
    }
}

/// The sets that each layer used.
struct Menu {
    paths: Paths,
    /// Experts of each set, ascending: `sets[layer][id]`.
    experts: Vec<Vec<Vec<u32>>>,
}

impl Menu {
    fn of(trace: &RoutingTrace) -> Result<Menu, AnalysisError> {
        let paths = Paths::of(trace, PathKind::Sets)?;
        let experts = trace.layers().iter().zip(&paths.stops).map(|(layer, stops)| {
            let set = |token: &u32| {
                let mut set = layer.chosen(*token as usize).to_vec();
                set.sort_unstable();
                set
            };
            stops.examples().iter().map(set).collect()
        });
        Ok(Menu { experts: experts.collect(), paths })
    }

    /// Ids of the sets that stay, the most used or, from a seed, random ones: `allowed[layer]`.
    fn pick(&self, sets: usize, random: Option<Seed>) -> Result<Vec<Vec<u32>>, AnalysisError> {
        check::in_range(METHOD, "sets left in a layer", sets, sets > 0, "at least 1")?;
        let layer = |(index, stops): (usize, &Interned)| {
            let mut order = by_use(&stops.counts());
            if let Some(seed) = random {
                order.shuffle(&mut seed.index(index as u64).rng());
            }
            order.truncate(sets);
            order
        };
        Ok(self.paths.stops.iter().enumerate().map(layer).collect())
    }

    fn sets(&self, allowed: &[Vec<u32>]) -> Vec<LayerSets> {
        let sets = |i: usize| allowed[i].iter().map(|id| self.experts[i][*id as usize].clone()).collect();
        self.paths
            .layers
            .iter()
            .enumerate()
            .map(|(i, layer)| LayerSets { layer: *layer, sets: sets(i) })
            .collect()
    }

    fn edits(&self, allowed: &[Vec<u32>]) -> Vec<Edit> {
        let edit = |LayerSets { layer, sets }| {
            let change = RouteEdit::AllowSets { sets };
            Edit::Route { layer: layer as u32, change }
        };
        self.sets(allowed).into_iter().map(edit).collect()
    }

    /// Share of the tokens all of whose sets are allowed.
    fn covered(&self, allowed: &[Vec<u32>]) -> f64 {
        let mut passes = vec![true; self.paths.tokens()];
        for (stops, allowed) in self.paths.stops.iter().zip(allowed) {
            let mut open = vec![false; stops.distinct]; // [id]
            allowed.iter().for_each(|id| open[*id as usize] = true);
            passes.iter_mut().zip(&stops.ids).for_each(|(passes, id)| *passes &= open[*id as usize]);
        }
        passes.iter().filter(|passes| **passes).count() as f64 / passes.len() as f64
    }
}

/// Summed loss and number of tokens of each document.
struct DocumentLoss(BTreeMap<u32, (f64, usize)>);

impl DocumentLoss {
    fn mean(&self) -> f64 {
        let (loss, tokens) = self.0.values().fold((0.0, 0), |(l, n), (loss, tokens)| (l + loss, n + tokens));
        loss / tokens as f64
    }

    fn by_document(&self) -> Vec<(u32, f64)> {
        self.0.iter().map(|(document, (loss, tokens))| (*document, loss / *tokens as f64)).collect()
    }
}

fn run(
    subject: &mut dyn Subject,
    evaluation: &[EvaluationBatch],
    edits: &[Edit],
) -> Result<DocumentLoss, AnalysisError> {
    let mut losses = DocumentLoss(BTreeMap::new());
    for batch in evaluation {
        let wanted = batch.tokens.len();
        if batch.documents.len() != wanted {
            let found = batch.documents.len();
            return Err(AnalysisError::Length { method: METHOD, what: "documents", found, wanted });
        }
        let loss = subject.run(&Request { edits, ..Request::of(&batch.tokens) })?.loss; // [batch, pos - 1]
        let steps = batch.tokens.positions() - 1;
        let wanted = batch.tokens.batch() * steps;
        if loss.len() != wanted {
            return Err(AnalysisError::Length { method: METHOD, what: "loss", found: loss.len(), wanted });
        }
        for (index, loss) in loss.iter().enumerate() {
            let at = index / steps * batch.tokens.positions() + index % steps;
            // Across a border between documents there is nothing to predict.
            if batch.documents[at] == batch.documents[at + 1] {
                let entry = losses.0.entry(batch.documents[at]).or_insert((0.0, 0));
                *entry = (entry.0 + f64::from(*loss), entry.1 + 1);
            }
        }
    }
    Ok(losses)
}

fn compare(
    menu: &Menu,
    allowed: &[Vec<u32>],
    sets: usize,
    choice: SetChoice,
    free: &DocumentLoss,
    restricted: &DocumentLoss,
) -> Result<RestrictionPoint, AnalysisError> {
    let pairs = restricted.by_document().into_iter().zip(free.by_document());
    let by_document: Vec<(u32, f64)> = pairs.map(|((document, r), (_, f))| (document, r - f)).collect();
    let differences: Vec<f64> = by_document.iter().map(|(_, difference)| *difference).collect();
    Ok(RestrictionPoint {
        sets,
        choice,
        paths_log2: allowed.iter().map(|ids| (ids.len() as f64).log2()).sum(),
        covered: menu.covered(allowed),
        loss: restricted.mean(),
        difference: one_sample(&differences)?,
        by_document,
    })
}

impl RestrictionReport {
    /// Mean difference over the control draws of a budget, nats per token; NaN without control draws.
    pub fn control_difference(&self, sets: usize) -> f64 {
        let is_control = |p: &&RestrictionPoint| p.sets == sets && p.choice != SetChoice::MostUsed;
        let controls: Vec<f64> = self.points.iter().filter(is_control).map(|p| p.difference.mean).collect();
        controls.iter().sum::<f64>() / controls.len() as f64
    }

    /// One row for each restricted run.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let real = |f: fn(&RestrictionPoint) -> f64| self.points.iter().map(f).collect::<Vec<f64>>();
        let choice = |p: &RestrictionPoint| match p.choice {
            SetChoice::MostUsed => "most used".to_owned(),
            SetChoice::Random { draw } => format!("random draw {draw}"),
        };
        let documents = self.points.iter().map(|p| p.by_document.len() as i64).collect();
        let mut columns = vec![
            Column::integer_key(
                "sets",
                "sets",
                "allowed in every routed layer",
                self.points.iter().map(|p| p.sets as i64).collect(),
            ),
            Column::key(
                "choice",
                "how the allowed sets were picked",
                self.points.iter().map(choice).collect(),
            ),
            Column::estimate(
                "paths_left",
                "bits",
                "log2 of the number of paths left",
                real(|p| p.paths_log2),
            ),
            Column::estimate(
                "covered",
                "share of tokens",
                "training tokens whose path was left",
                real(|p| p.covered),
            ),
            Column::estimate("loss", "nats", "mean over evaluation tokens", real(|p| p.loss)),
            Column::null("loss", "nats", "unrestricted run", vec![self.free_loss; self.points.len()]),
            Column::estimate(
                "difference",
                "nats",
                "loss minus unrestricted loss, mean over documents",
                real(|p| p.difference.mean),
            ),
            Column::null(
                "difference",
                "nats",
                "mean over the control draws of as many sets",
                self.points.iter().map(|p| self.control_difference(p.sets)).collect(),
            ),
            Column::observations("difference", "documents", documents),
        ];
        columns.extend(Column::interval(
            "difference",
            "nats",
            "95 % over documents",
            real(|p| p.difference.low),
            real(|p| p.difference.high),
        ));
        let method = "Only the listed number of sets allowed in every routed layer, weights unchanged; differences by \
                      document. Does not show what a model trained with few paths would lose.";
        Ok(Table::new("paths_restriction", "What losing paths costs", method, columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::planted_subject::PlantedSubject;
    use super::*;
    use crate::routing::planted;
    use proptest::prelude::*;

    fn batch(ids: &[u32], documents: &[u32]) -> EvaluationBatch {
        EvaluationBatch {
            tokens: Tokens::new(ids.to_vec(), 1, ids.len()).unwrap(),
            documents: documents.to_vec(),
        }
    }

    fn budget(sets: &[usize], controls: usize) -> Budget {
        Budget { sets: sets.to_vec(), controls: Permutations::new(controls, Seed(1)) }
    }

    #[test]
    fn a_hand_worked_restriction() {
        // Token 0 (experts 0, 1) is most used; token 1 (1, 2) then lacks one expert and token 3 (3, 4) two, per layer.
        let training = PlantedSubject::trace(vec![0, 0, 0, 1, 1, 3], vec![0; 6]);
        let evaluation = [batch(&[0, 3, 0, 1, 1, 0], &[8, 8, 8, 9, 9, 9])];
        let mut subject = PlantedSubject::new(0.5);
        let report = restriction(&mut subject, &training, &evaluation, &budget(&[1, 3], 0)).unwrap();
        assert_eq!((report.free_loss, &report.free_by_document[..]), (1.0, &[(8, 1.0), (9, 1.0)][..]));
        let one = &report.points[0];
        // Document 8 predicts from 0 and 3: 0 and 2 layers × 2 experts × ½; document 9 from 1 and 1: 1 each.
        assert_eq!(one.by_document, [(8, 1.0), (9, 1.0)]);
        assert_eq!((one.loss, one.covered, one.paths_log2), (2.0, 0.5, 0.0));
        let all = &report.points[1];
        assert_eq!((all.difference.mean, all.covered), (0.0, 1.0));
        assert!((all.paths_log2 - 2.0 * 3f64.log2()).abs() < 1e-12);
        assert_eq!(report.table().unwrap().rows(), 2);
        let first = |layer| LayerSets { layer, sets: vec![vec![0, 1]] };
        assert_eq!(most_used_sets(&training, 1).unwrap(), [first(1), first(2)]);
    }

    #[test]
    fn the_border_between_documents_is_left_out() {
        let training = PlantedSubject::trace(vec![0, 3], vec![0; 2]);
        // Token 3 stands at the border: its loss is of the next document's first token.
        let evaluation = [batch(&[0, 3, 0, 0], &[1, 1, 2, 2])];
        let report = restriction(&mut PlantedSubject::new(1.0), &training, &evaluation, &budget(&[1], 0));
        assert_eq!(report.unwrap().points[0].difference.mean, 0.0);
    }

    fn mixed(seed: u64) -> (RoutingTrace, Vec<EvaluationBatch>) {
        let mut rng = Seed(seed).rng();
        // Token 0 is common, the others rare.
        let mut ids =
            |n| -> Vec<u32> { planted::random_sets(n, 6, 1, |e| if e == 0 { 9.0 } else { 1.0 }, &mut rng) };
        let training = PlantedSubject::trace(ids(200), vec![0; 200]);
        (training, (0..8).map(|d| batch(&ids(20), &[d; 20])).collect())
    }

    #[test]
    fn losing_paths_costs_less_when_the_most_used_stay_and_cost_falls_with_the_number_left() {
        let (training, evaluation) = mixed(2);
        let budget = budget(&[1, 2, 4, 6], 6);
        let report = restriction(&mut PlantedSubject::new(0.3), &training, &evaluation, &budget).unwrap();
        let most_used: Vec<&RestrictionPoint> =
            report.points.iter().filter(|p| p.choice == SetChoice::MostUsed).collect();
        assert!(most_used.windows(2).all(|w| w[0].difference.mean >= w[1].difference.mean));
        assert!(most_used[0].difference.low > 0.0 && most_used[3].difference.mean == 0.0);
        assert!(report.control_difference(1) > most_used[0].difference.high);
    }

    #[test]
    fn a_model_that_does_not_need_its_paths_loses_nothing() {
        let (training, evaluation) = mixed(3);
        let report = restriction(&mut PlantedSubject::new(0.0), &training, &evaluation, &budget(&[1, 2], 3));
        assert!(
            report.unwrap().points.iter().all(|p| p.difference.mean == 0.0 && p.difference.p_value == 1.0)
        );
    }

    #[test]
    fn an_empty_budget_wrong_lengths_and_a_refusing_model_are_errors() {
        let (training, evaluation) = mixed(4);
        let mut subject = PlantedSubject::new(1.0);
        assert!(restriction(&mut subject, &training, &evaluation, &budget(&[0], 0)).is_err());
        let short = [EvaluationBatch { documents: vec![0], ..evaluation[0].clone() }];
        assert!(restriction(&mut subject, &training, &short, &budget(&[1], 0)).is_err());
        let elsewhere =
            planted::trace(training.tokens().clone(), 6, 2, vec![training.layers()[0].choices.clone()]);
        assert!(matches!(
            restriction(&mut subject, &elsewhere, &evaluation, &budget(&[1], 0)),
            Err(AnalysisError::Subject(_))
        ));
    }

    proptest! {
        #[test]
        fn the_order_of_training_tokens_and_of_batches_is_immaterial(seed in 0u64..100) {
            let (training, mut evaluation) = mixed(seed);
            let run = |t: &RoutingTrace, e: &[EvaluationBatch]| {
                let report = restriction(&mut PlantedSubject::new(0.3), t, e, &budget(&[6], 1)).unwrap();
                (report.points[0].by_document.clone(), report.points[1].covered)
            };
            let own = run(&training, &evaluation);
            evaluation.reverse();
            prop_assert_eq!(own, run(&planted::reordered(&training, seed), &evaluation));
        }
    }
}
