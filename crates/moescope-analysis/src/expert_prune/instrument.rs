//! The instrument `expert-prune`.

use moescope_base::{Column, Figure, FigureKind, Table};

use super::{METHOD, NeuronCriterion, Pruned, PrunedNeurons, Way, neuron_pruning, pruning_curves};
use crate::AnalysisError;
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::statistics::Bootstrap;
use crate::tabulate::bootstrap_columns;
use crate::wording::{away_from_0, listed};

/// Sequences that are looked at, at most.
const SEQUENCES: usize = 64;

/// The instrument `expert-prune`.
///
/// Two tables: experts by criterion, way and share (`expert_pruning`), and neurons within experts (`neuron_pruning`). See [`Pruned`] and
/// [`PrunedNeurons`] for units, nulls and limits.
pub struct ExpertPruning;

/// Experts whose answers are short can go, the one that knows cannot.
const SPARES: Reading = Reading {
    says: "half of the experts go with less loss by their answers than at random",
    table: "expert_pruning",
    rows: &[("way", "rerouted"), ("criterion", "smallest answer"), ("share", "0.5")],
    value: "saved",
    rule: Rule::MoreThan(0.0),
};
/// The same by what single experts are worth, with nothing rerouted.
const SPARES_BY_LOSS: Reading = Reading {
    says: "half of the experts go with less loss by single knock-outs than at random",
    table: "expert_pruning",
    rows: &[("way", "missing"), ("criterion", "least loss"), ("share", "0.5")],
    value: "saved",
    rule: Rule::MoreThan(0.0),
};
/// A criterion that did the opposite of what it says would be found by this.
const COSTS: Reading = Reading {
    says: "half of the experts cost more by their answers than at random",
    table: "expert_pruning",
    rows: &[("way", "rerouted"), ("criterion", "smallest answer"), ("share", "0.5")],
    value: "saved",
    rule: Rule::LessThan(0.0),
};

/// Where one expert knows and the others say nothing, a criterion must keep it; where all say nothing, none can spare.
const PROMISES: &[Promise] = &[
    Promise::finds(Property::FactExpert, SPARES),
    Promise::finds(Property::FactExpert, SPARES_BY_LOSS),
    Promise::is_silent(Property::FactExpert, COSTS),
    Promise::is_silent(Property::SilentHeads, SPARES),
    Promise::is_silent(Property::SilentHeads, COSTS),
];

impl Instrument for ExpertPruning {
    fn about(&self) -> About {
        About {
            name: "expert-prune",
            group: Group::Causal,
            question: "How many experts, and how many neurons of each, can go, and by which criterion?",
            null: "as many random experts of each layer, or random neurons of each expert",
            does_not_show: "what training after pruning would restore, nor what generated text would lose",
            source: "use, Chen et al. 2022 (arXiv 2206.00277); routed weight, Muzio et al. 2024 (arXiv 2404.05089); weighted answers, Lasby et al. 2025 (arXiv 2510.13999); neurons by size and weight, Sun et al. 2024 (arXiv 2306.11695)",
            passes: "one for each layer and, up to 128 experts, for each expert, 72 for the curves of experts and 20 for those of neurons, of at most 64 sequences",
            routed: true,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let (seed, resampling) = (material.seed.child(METHOD), material.resampling(METHOD));
        let samples = material.some_samples(METHOD, SEQUENCES)?;
        let experts = pruning_curves(material.subject, &samples, seed, resampling)?;
        let neurons = neuron_pruning(material.subject, &samples, seed, resampling)?;
        let of = |id: &str, title: String, caption: &str| Figure {
            id: id.into(),
            title,
            caption: caption.into(),
            table: id.into(),
            kind: FigureKind::Lines {
                x: "share".into(),
                y: "loss".into(),
                series: Some("line".into()),
                log2_x: false,
            },
        };
        let figures = vec![
            of(
                "expert_pruning",
                expert_finding(&experts),
                "Change of the loss with ever more experts of every layer gone, over documents that decided nothing; beside each line as many \
                 random experts.",
            ),
            of(
                "neuron_pruning",
                neuron_finding(&neurons),
                "Change of the loss with ever more neurons of every expert silent, over documents that decided nothing; beside each line as \
                 many random neurons.",
            ),
        ];
        Ok(Finding { tables: vec![expert_table(&experts)?, neuron_table(&neurons)?], figures })
    }
}

/// Unit of all changes of the loss.
const LOSS: &str = "nats per token";

/// Loss and what a criterion spares, with their nulls.
fn measured(loss: &[Bootstrap], random: Vec<f64>, saved: &[Bootstrap]) -> Vec<Column> {
    let mut columns = bootstrap_columns("loss", LOSS, "loss minus that of the model as it is", loss);
    columns.push(Column::null("loss", LOSS, "as many at random, mean over draws", random));
    columns.extend(bootstrap_columns(
        "saved",
        LOSS,
        "loss with random ones gone minus that with these gone",
        saved,
    ));
    columns.push(Column::null("saved", LOSS, "no better than at random", vec![0.0; saved.len()]));
    columns
}

/// One row for each way, criterion and share.
pub(super) fn expert_table(found: &[Pruned]) -> Result<Table, AnalysisError> {
    let text = |of: &dyn Fn(&Pruned) -> String| found.iter().map(of).collect::<Vec<String>>();
    let mut columns = vec![
        Column::key(
            "line",
            "criterion, and what becomes of tokens",
            text(&|p| format!("{}, {}", p.criterion.name(), p.way.name())),
        ),
        Column::key("criterion", "which experts go first", text(&|p| p.criterion.name().into())),
        Column::key(
            "way",
            "what becomes of the tokens of an expert that goes",
            text(&|p| p.way.name().into()),
        ),
        Column::estimate(
            "share",
            "share of experts",
            "that are gone",
            found.iter().map(|p| p.share).collect(),
        ),
        Column::count(
            "removed",
            "experts",
            "that are gone",
            found.iter().map(|p| p.removed as i64).collect(),
        ),
    ];
    let of = |pick: fn(&Pruned) -> Bootstrap| found.iter().map(pick).collect::<Vec<Bootstrap>>();
    let random = found.iter().map(|p| p.random).collect();
    columns.extend(measured(&of(|p| p.loss), random, &of(|p| p.saved)));
    let method = "The same share of the experts of every routed layer is taken out; worth is decided on half of the documents, the loss is that of \
                  the others. `rerouted`: the router chooses among those left; `missing`: choice and weights stay. Does not show what training \
                  afterwards would restore.";
    Ok(Table::new("expert_pruning", "What pruned experts cost", method, columns)?)
}

/// One row for each criterion and share.
fn neuron_table(found: &[PrunedNeurons]) -> Result<Table, AnalysisError> {
    let mut columns = vec![
        Column::key(
            "line",
            "which neurons go first",
            found.iter().map(|p| p.criterion.name().into()).collect(),
        ),
        Column::estimate(
            "share",
            "share of neurons",
            "of every expert that are silent",
            found.iter().map(|p| p.share).collect(),
        ),
    ];
    let of = |pick: fn(&PrunedNeurons) -> Bootstrap| found.iter().map(pick).collect::<Vec<Bootstrap>>();
    let random = found.iter().map(|p| p.random).collect();
    columns.extend(measured(&of(|p| p.loss), random, &of(|p| p.saved)));
    let method = "The same share of the neurons of every expert of at most four layers writes nothing; size is measured on half of the documents, \
                  the loss is that of the others. Does not show what training afterwards would restore.";
    Ok(Table::new("neuron_pruning", "What pruned neurons of experts cost", method, columns)?)
}

/// What each criterion costs at the share next to a half, and which of them spare something beyond chance.
///
/// None is called the best: intervals tell each from random experts, not the criteria from each other.
pub(super) fn expert_finding(found: &[Pruned]) -> String {
    let rerouted = || found.iter().filter(|point| point.way == Way::Rerouted && point.share < 0.55);
    let share = rerouted().map(|point| point.share).fold(0.0, f64::max);
    let here: Vec<&Pruned> = rerouted().filter(|point| point.share == share).collect();
    let Some(first) = here.first() else { return String::new() };
    let losses = || here.iter().map(|point| point.loss.estimate);
    let spares: Vec<&str> =
        here.iter().filter(|point| point.saved.low > 0.0).map(|point| point.criterion.name()).collect();
    let told = match spares.as_slice() {
        [] => "no criterion is told from random ones".into(),
        [only] => format!("only `{only}` spares something beyond chance"),
        more => format!("{} spare something beyond chance", listed(more)),
    };
    format!(
        "Without {:.0} % of the experts the loss changes by {:+.3} to {:+.3} nats per token, by criterion, and by {:+.3} with random ones \
         gone; {told} (95 % each)",
        100.0 * share,
        losses().fold(f64::INFINITY, f64::min),
        losses().fold(f64::NEG_INFINITY, f64::max),
        first.random
    )
}

/// What half of the neurons cost by contribution and at random, and whether the two are told apart.
fn neuron_finding(found: &[PrunedNeurons]) -> String {
    let half = found.iter().find(|p| p.criterion == NeuronCriterion::Contribution && p.share >= 0.5);
    half.map_or_else(String::new, |half| {
        format!(
            "Without the half of the neurons of each expert that adds least the loss changes by {:+.3} nats per token, without a random half \
             by {:+.3}{}",
            half.loss.estimate,
            half.random,
            if away_from_0(&half.saved) { "" } else { "; the two are not told apart" }
        )
    })
}
