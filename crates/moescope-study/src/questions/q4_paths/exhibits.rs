use moescope_base::{Column, Figure, FigureKind, Table};

use super::claims::{on_paths, restricted, share};
use crate::measure::{Measures, PathMeasure};
use crate::results::{Results, mean, subtract};
use crate::tabulate::{Estimates, count_in_words, digits};
use crate::{Family, StudyError};

/// What it costs to allow only K sets in each layer: the most used, and as many drawn at random among those observed.
///
/// The distance between the two lines is what choosing the sets by their use saves.
pub(super) fn restriction_exhibit(results: &Results) -> Result<(Table, Figure), StudyError> {
    let moe = results.primary();
    let sets = &results.config.instruments.restriction;
    let mut kinds = Vec::new();
    let mut allowed = Vec::new();
    let mut rows = Vec::new();
    for (name, random) in [("most used", false), ("random among the used", true)] {
        for (index, count) in sets.iter().enumerate() {
            kinds.push(name.to_owned());
            allowed.push(*count as i64);
            rows.push(results.language(moe, restricted(index, random)));
        }
    }
    let mut columns = vec![
        Column::key("kept", "which sets stay allowed", kinds),
        Column::integer_key("sets", "sets/layer", "allowed expert sets in each layer", allowed),
    ];
    columns.extend(Estimates::of(&rows)?.columns("cost", "nats/token", "validation loss minus unrestricted"));
    let table =
        Table::new("q4_restriction", "What restricting paths costs", "Paired within each model.", columns)?;
    let cost = |index, random| digits(mean(&results.language(moe, restricted(index, random))));
    let last = sets.len() - 1;
    let figure = Figure {
        id: "q4_restriction".into(),
        title: format!(
            "{} allowed sets per layer cost {} nats, {} cost {}",
            sets[0],
            cost(0, false),
            sets[last],
            cost(last, false)
        ),
        caption: "Rise in validation loss when only K expert sets per layer may be used, against the same number of sets drawn \
                  at random among those observed. Bands are 95 % t-intervals over seeds."
            .into(),
        table: "q4_restriction".into(),
        kind: FigureKind::Lines { x: "sets".into(), y: "cost".into(), series: Some("kept".into()), log2_x: true },
    };
    Ok((table, figure))
}

/// Number of paths by granularity, in bits: used, used if layers chose independently, possible.
pub(super) fn number_exhibit(results: &Results) -> Result<(Table, Figure), StudyError> {
    let sweep: Vec<Family> =
        results.config.model.granularities.iter().map(|g| Family::Moe { granularity: *g }).collect();
    type Pick = fn(&PathMeasure) -> f64;
    let kinds: [(&str, Pick); 3] = [
        ("used", |p| p.entropy),
        ("used, layers shuffled independently", |p| p.entropy_shuffled),
        ("possible", |p| p.log2_possible),
    ];
    let mut names = Vec::new();
    let mut x = Vec::new();
    let mut rows = Vec::new();
    for (name, pick) in kinds {
        for (family, granularity) in sweep.iter().zip(&results.config.model.granularities) {
            names.push(name.to_owned());
            x.push(*granularity as i64);
            rows.push(results.language(*family, on_paths(pick)));
        }
    }
    let mut columns = vec![
        Column::key("paths", "which number of paths", names),
        Column::integer_key("granularity", "", "d_ff over expert width (Warsaw)", x),
    ];
    columns.extend(Estimates::of(&rows)?.columns("bits", "bits", "log2 of the number of paths"));
    let table = Table::new(
        "q4_number",
        "Number of paths by granularity",
        "Chao–Shen estimate from the validation tokens.",
        columns,
    )?;
    let count =
        |pick: Pick| count_in_words(mean(&results.language(results.primary(), on_paths(pick))).exp2());
    let figure = Figure {
        id: "q4_number".into(),
        title: format!(
            "{} uses about {} of {} possible paths",
            results.primary(),
            count(|p| p.entropy),
            count(|p| p.log2_possible)
        ),
        caption: "Effective number of paths (exponential of the entropy), in powers of two. The sample bounds what can be seen: \
                  it holds fewer tokens than there are possible paths at fine granularity."
            .into(),
        table: "q4_number".into(),
        kind: FigureKind::Lines { x: "granularity".into(), y: "bits".into(), series: Some("paths".into()), log2_x: true },
    };
    Ok((table, figure))
}

/// Share of tokens on the K most used paths, for each granularity.
///
/// The same tokens rank the paths and are counted on them, so the curve flatters the first few.
pub(super) fn coverage_exhibit(results: &Results) -> Result<(Table, Figure), StudyError> {
    let mut names = Vec::new();
    let mut x = Vec::new();
    let mut rows = Vec::new();
    for granularity in &results.config.model.granularities {
        let family = Family::Moe { granularity: *granularity };
        let points = results.language(family, |m| m.paths.as_ref().map(|p| p.coverage.len() as f64));
        let points = points.iter().copied().fold(0.0, f64::max) as usize;
        for index in 0..points {
            let kept =
                |m: &Measures| m.paths.as_ref().and_then(|p| p.coverage.get(index)).map(|c| c.paths as f64);
            names.push(family.to_string());
            x.push(mean(&results.language(family, kept)) as i64);
            rows.push(
                results.language(family, |m| {
                    m.paths.as_ref().and_then(|p| p.coverage.get(index)).map(|c| c.share)
                }),
            );
        }
    }
    let mut columns = vec![
        Column::key("family", "kind of model", names),
        Column::integer_key("paths", "paths", "most used paths kept", x),
    ];
    columns.extend(Estimates::of(&rows)?.columns("share", "of tokens", "tokens whose path is among them"));
    let table = Table::new(
        "q4_coverage",
        "Coverage by the most used paths",
        "Paths ranked by use in the validation tokens.",
        columns,
    )?;
    let at = 16;
    let share = |m: &Measures| {
        m.paths.as_ref().and_then(|p| p.coverage.iter().find(|c| c.paths == at)).map(|c| 100.0 * c.share)
    };
    let figure = Figure {
        id: "q4_coverage".into(),
        title: format!(
            "The {at} most used paths carry {} % of the tokens in {}",
            digits(mean(&results.language(results.primary(), share))),
            results.primary()
        ),
        caption: "Share of validation tokens covered by the K most used paths. Bands are 95 % t-intervals over seeds.".into(),
        table: "q4_coverage".into(),
        kind: FigureKind::Lines { x: "paths".into(), y: "share".into(), series: Some("family".into()), log2_x: true },
    };
    Ok((table, figure))
}

/// What the whole path and its most telling layer tell about domain and token.
pub(super) fn information_exhibit(results: &Results) -> Result<(Table, Figure), StudyError> {
    type Pick = fn(&PathMeasure) -> f64;
    let kinds: [(&str, &str, Pick); 4] = [
        ("whole path", "domain", |p| share(&p.domain)),
        ("most telling layer", "domain", |p| p.single_domain),
        ("whole path", "token", |p| share(&p.token)),
        ("most telling layer", "token", |p| p.single_token),
    ];
    let moe = results.primary();
    let rows: Vec<Vec<f64>> =
        kinds.iter().map(|(_, _, pick)| results.language(moe, on_paths(*pick))).collect();
    let mut columns = vec![
        Column::key("about", "label", kinds.iter().map(|k| k.1.to_owned()).collect()),
        Column::key("unit", "what of the route", kinds.iter().map(|k| k.0.to_owned()).collect()),
    ];
    columns.extend(Estimates::of(&rows)?.columns(
        "information",
        "share of the label",
        "mutual information above the mean of its null, as a share of what was left to find",
    ));
    let table = Table::new(
        "q4_information",
        "What routes tell about tokens",
        "Permutation null, corrected in the same way for paths and layers.",
        columns,
    )?;
    let gain = subtract(
        &results.language(moe, on_paths(|p| share(&p.domain))),
        &results.language(moe, on_paths(|p| p.single_domain)),
    );
    let figure = Figure {
        id: "q4_information".into(),
        title: format!("Of the domain the whole path tells {} more than its most telling layer (as a share)", digits(mean(&gain))),
        caption: "Mutual information between route and label above a permutation null, as a share of what was left to find above it: \
                  1 if the route names the label. Bars are 95 % t-intervals over seeds.".into(),
        table: "q4_information".into(),
        kind: FigureKind::Bars { x: "about".into(), y: "information".into(), series: Some("unit".into()) },
    };
    Ok((table, figure))
}
