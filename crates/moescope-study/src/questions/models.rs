mod rates;

use moescope_analysis::statistics;
use moescope_base::{Column, Figure, FigureKind, Table};

use crate::StudyError;
use crate::conclusion::Chapter;
use crate::results::{Results, loss, mean};
use crate::roster::{Rate, Run, Workload};
use crate::tabulate::{Estimates, digits};

/// What was grown: the opening sentences of the report, and the chapter on the models.
pub(crate) fn models(results: &Results) -> Result<(Vec<String>, Chapter), StudyError> {
    let table = family_table(results)?;
    let figure = Figure {
        id: "families".into(),
        title: finding(results),
        caption: "Validation loss on the same windows, every domain weighing equally; bars are 95 % t-intervals over seeds; left is better. \
                  The families differ in the feed-forward layer only."
            .into(),
        table: "families".into(),
        kind: FigureKind::Forest { label: "family".into(), estimate: "loss".into(), reference: None },
    };
    let (rate_table, rate_figure) = rates::exhibit(results)?;
    let chapter = Chapter {
        id: "models".into(),
        question: None,
        heading: "The models".into(),
        prose: vec![design(results)],
        figures: vec![figure, rate_figure],
        tables: vec![table, rate_table, run_table(results)?],
        method: vec![
            "All families of a seed see the same windows in the same order, with the same schedule and optimiser; the \
             feed-forward layer differs. Where routing weights scale a layer's output down, its output matrix starts larger by \
             that factor and learns at a rate larger by it (column rate factor), so that it moves its output as fast as a dense \
             layer does. Parameters and FLOPs are exact counts, router included."
                .into(),
            "Granularity is the Warsaw definition: d_ff over the width of one expert; experts = expansion × granularity, \
             chosen per token = granularity."
                .into(),
            "Routing weights are the raw softmax scores, for every granularity, but for the family that is named for its \
             renormalised ones; the balance loss is divided by the number of \
             chosen experts, so that its pressure does not grow with granularity."
                .into(),
        ],
        limits: limits(results),
    };
    Ok((lead(results), chapter))
}

/// What the models' chapter does not show.
fn limits(results: &Results) -> Vec<String> {
    let mut limits = vec![
            "One base learning rate for all families: one whose best rate lies elsewhere is put at a disadvantage. Half and double \
             the rate are tried for three families only; claims about the others may hang on the rate."
                .into(),
            "Models of this size at this budget say nothing certain about models a thousand times larger.".into(),
    ];
    let cut = &results.dataset.cut_domains;
    if !cut.is_empty() {
        limits.push(format!(
            "Too few documents to keep them whole: the validation text of {} is passages never trained on, beside others of the \
             same documents that were.",
            cut.join(", ")
        ));
    }
    limits
}

/// The sizes of the study in one sentence.
fn design(results: &Results) -> String {
    let (sizes, data) = (&results.config.model, &results.config.data);
    format!(
        "{} families × {} seeds of decoders with {} blocks of width {}, active feed-forward width {}, expansion {}; vocabulary {}, \
         windows of {} tokens; {} steps of {} windows. Validation: {} tokens of {} documents.",
        results.config.language_families().len(),
        results.config.seeds,
        sizes.layers,
        sizes.d_model,
        sizes.d_ff,
        sizes.expansion,
        results.dataset.vocabulary,
        data.positions,
        results.config.training.steps,
        results.config.training.batch,
        results.dataset.validation_tokens,
        results.dataset.validation_documents,
    )
}

/// Steps below which a study says that it only shows that every part works.
const FEW_STEPS: u64 = 100;

/// The opening sentences: how many models, whether they have learned, how much seeds alone make losses differ.
fn lead(results: &Results) -> Vec<String> {
    let few = (results.config.training.steps < FEW_STEPS).then(|| {
        format!(
            "With {} training steps this study shows that every part works. Its answers mean nothing: do not quote them.",
            results.config.training.steps
        )
    });
    few.into_iter().chain(findings(results)).collect()
}

/// What can be said of the models as a whole.
fn findings(results: &Results) -> Vec<String> {
    let losses: Vec<f64> = trained(results).map(|(_, l)| l).collect();
    let worst = losses.iter().copied().fold(f64::MIN, f64::max);
    let best = losses.iter().copied().fold(f64::MAX, f64::min);
    let unigram = results.dataset.unigram_entropy;
    let count = |wanted: fn(&Run) -> bool| results.runs.keys().filter(|r| !r.untrained && wanted(r)).count();
    vec![
        format!(
            "{} models were trained on {} domains of text and {} on tasks with exact answers, and measured by the same instruments.",
            count(|run| run.workload == Workload::Language),
            results.dataset.domain_names.len(),
            count(|run| run.workload != Workload::Language)
        ),
        format!(
            "They have learned: at the learning rate of the study, validation losses lie between {} and {} nats per token, where a model that knows only \
             how often each token occurs would have {}; the study would have refused to answer above {}.",
            digits(best),
            digits(worst),
            digits(unigram),
            digits(crate::study::LEARNED_SHARE * unigram)
        ),
        format!(
            "Noise floor: the losses of one family have a standard deviation of {} nats over seeds, pooled over families. \
             Every comparison is paired by seed, which removes what the seeds have in common.",
            digits(noise_floor(results))
        ),
    ]
}

/// Pooled standard deviation of the validation loss over seeds, within families, in nats.
pub(crate) fn noise_floor(results: &Results) -> f64 {
    let families = results.config.language_families();
    let variances: Vec<f64> =
        families.into_iter().map(|f| statistics::variance(&results.language(f, loss))).collect();
    mean(&variances).sqrt()
}

/// The trained language models at the rate of the study with their losses; the untrained floor is left out.
fn trained(results: &Results) -> impl Iterator<Item = (&Run, f64)> {
    let language = |run: &Run| run.workload == Workload::Language && !run.untrained && run.rate == Rate::Base;
    results.runs.iter().filter(move |(run, _)| language(run)).filter_map(|(run, m)| Some((run, loss(m)?)))
}

/// Which family has the lowest and the highest mean loss: a description of the means, not a claim.
fn finding(results: &Results) -> String {
    let of = |family| mean(&results.language(family, loss));
    let families = results.config.language_families();
    let best = families.iter().min_by(|a, b| of(**a).total_cmp(&of(**b))).expect("a study has families");
    let worst = families.iter().max_by(|a, b| of(**a).total_cmp(&of(**b))).expect("a study has families");
    format!(
        "Mean validation losses lie between {} ({best}) and {} ({worst})",
        digits(of(*best)),
        digits(of(*worst))
    )
}

/// One row for each family: loss over seeds, parameters, arithmetic.
fn family_table(results: &Results) -> Result<Table, StudyError> {
    let families = results.config.language_families();
    let rows: Vec<Vec<f64>> = families.iter().map(|f| results.language(*f, loss)).collect();
    let first = |pick: fn(&crate::measure::Measures) -> u64| {
        families
            .iter()
            .map(|f| results.of(Workload::Language, *f).first().map_or(0, |m| pick(m) as i64))
            .collect()
    };
    let factors = families
        .iter()
        .map(|f| results.of(Workload::Language, *f).first().map_or(f64::NAN, |m| m.rate_factor))
        .collect();
    let mut columns = vec![
        Column::key("family", "kind of model", families.iter().map(ToString::to_string).collect()),
        Column::text("what", "what the family is", families.iter().map(|f| f.meaning().to_owned()).collect()),
    ];
    columns.extend(Estimates::of(&rows)?.columns(
        "loss",
        "nats/token",
        "validation loss, domains weighing equally",
    ));
    columns.extend([
        Column::count("parameters_total", "parameters", "all parameters", first(|m| m.parameters_total)),
        Column::count(
            "parameters_active",
            "parameters",
            "parameters that one token passes through",
            first(|m| m.parameters_active),
        ),
        Column::estimate(
            "rate_factor",
            "× base rate",
            "of the output matrix of the feed-forward layer",
            factors,
        ),
        Column::count(
            "flops_per_token",
            "FLOP",
            "forward pass, router included",
            first(|m| m.flops_per_token),
        ),
    ]);
    let method = "One model per family and seed; losses on the fixed validation windows.";
    Ok(Table::new("families", "Families: size and validation loss", method, columns)?)
}

/// One row for each run, so that every mean can be taken again.
fn run_table(results: &Results) -> Result<Table, StudyError> {
    let rows: Vec<(&Run, f64)> = trained(results).collect();
    let columns = vec![
        Column::key("run", "family and seed", rows.iter().map(|(r, _)| r.to_string()).collect()),
        Column::estimate("loss", "nats/token", "validation loss", rows.iter().map(|(_, l)| *l).collect()),
        Column::null(
            "loss",
            "nats/token",
            "unigram entropy",
            vec![results.dataset.unigram_entropy; rows.len()],
        ),
    ];
    Ok(Table::new("runs", "Every run", "Single runs, before any averaging.", columns)?)
}
