//! Everything that a trace tells about routing, in chapters, each with its tables and pictures.
//!
//! A report reads a trace that was recorded before and runs no model: its cost is that of counting and of
//! shuffles. It goes from what one layer alone shows (load, sharpness, experts that go together) to
//! neighbouring tokens, to what the text says about them, to paths across layers, and ends with a few
//! passages to read. Each chapter has a sentence on what it does not show, because most of these numbers are
//! easily taken for more: an even load is no sign of specialisation, and information about a label is no sign
//! of a cause.

use moescope_base::{Figure, FigureKind, Seed, Table};
use moescope_trace::RoutingTrace;

use super::{passages, words};
use crate::instrument::{Finding, layer_figure};
use crate::paths::{PathKind, coverage, cross_layer_information, effective_number, flows, path_information};
use crate::routing::{NEAR_TIE, Permutations, coactivation, load, locality, near_ties, sharpness};
use crate::specialisation::{
    Exchange, Labels, SpecialisationReport, domain_given_token, domain_lift, domain_load,
    domain_specialisation, information_table, label_specialisation,
};
use crate::statistics::{BootstrapMethod, Resampling};
use crate::{AnalysisError, check};

/// Numbers of most used paths for which coverage is reported.
const MOST_USED: [usize; 9] = [1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000];

/// Replicates behind intervals over documents.
const REPLICATES: usize = 400;

/// One part of a report on routes.
#[derive(Clone, Debug, PartialEq)]
pub struct Chapter {
    /// Identifier, as it stands in links.
    pub id: &'static str,
    /// Heading.
    pub heading: &'static str,
    /// Tables and pictures; the title of the first picture is the finding.
    pub finding: Finding,
    /// What it does not show.
    pub limits: &'static str,
}

/// Everything that one trace can tell about routing: load, sharpness, co-activation, locality, specialisation, paths, and some text.
///
/// Analyses that the trace does not allow are left out: the domain needs at least two domains, locality neighbours, and what lies across
/// layers at least two routed layers. `texts[id]` is the text of a token, and may be empty.
///
/// # Errors
/// If the trace has no token or no routed layer, no permutation is asked for, or a document spans domains.
pub fn chapters(
    trace: &RoutingTrace,
    seed: Seed,
    permutations: usize,
    texts: &[String],
) -> Result<Vec<Chapter>, AnalysisError> {
    let permutations = Permutations::new(permutations, seed);
    let mut chapters = vec![
        Chapter {
            id: "load",
            heading: "Load",
            finding: load_finding(trace)?,
            limits: "Specialisation: a router that draws at random is even as well.",
        },
        Chapter {
            id: "sharpness",
            heading: "Sharpness of the choice",
            finding: sharpness_finding(trace)?,
            limits: "Whether the choice matters for the loss.",
        },
        Chapter {
            id: "together",
            heading: "Experts that go together",
            finding: together_finding(trace, permutations)?,
            limits: "Why they do: experts that like the same tokens go together without knowing of each other.",
        },
    ];
    if let Some(finding) = locality_finding(trace, permutations)? {
        let limits = "Whether neighbours keep experts because they are alike or because they are near.";
        chapters.push(Chapter { id: "locality", heading: "From token to token", finding, limits });
    }
    let (finding, layer) = specialisation_finding(trace, None, permutations)?;
    let limits =
        "What experts compute; topic and vocabulary are told apart by the information given the token alone.";
    chapters.push(Chapter { id: "specialisation", heading: "Specialisation", finding, limits });
    let finding = paths_finding(trace, permutations)?;
    let limits = "That paths are needed: this counts, and does not intervene.";
    chapters.push(Chapter { id: "paths", heading: "Paths", finding, limits });
    if let Some(shown) = passages(trace, layer, texts, seed.child("passages")) {
        let finding = Finding { tables: vec![shown.table()?], figures: vec![shown.figure()] };
        let limits = "What is frequent: a few passages drawn at random.";
        chapters.push(Chapter { id: "text", heading: "Some text", finding, limits });
    }
    Ok(chapters)
}

/// How evenly experts are used.
///
/// Three tables: by layer, by expert, and over layers. The map of experts has the even load as its neutral
/// colour where all layers have as many experts; where they differ there is no one such load.
pub(crate) fn load_finding(trace: &RoutingTrace) -> Result<Finding, AnalysisError> {
    let load = load(trace)?;
    let tables = vec![load.table()?, load.by_expert()?, load.over_layers()?];
    let mut figures = Vec::from_iter(titled(&tables[0], words::load(&tables[0])));
    // Where all layers have as many experts there is one ideal for the whole map.
    let experts = trace.layers().first().map_or(1, |layer| layer.experts);
    let same = trace.layers().iter().all(|layer| layer.experts == experts);
    if let Some(mut map) = titled(&tables[1], words::load_by_expert(&tables[1])) {
        map.caption =
            "Share of the routed slots that each expert received; the neutral colour is an even load.".into();
        if let (FigureKind::Heatmap { center, .. }, true) = (&mut map.kind, same) {
            *center = Some(1.0 / experts as f64);
        }
        figures.push(map);
    }
    Ok(Finding { tables, figures })
}

/// How decided routers are, and how often arithmetic could have decided otherwise.
pub(crate) fn sharpness_finding(trace: &RoutingTrace) -> Result<Finding, AnalysisError> {
    let tables = vec![sharpness(trace, NEAR_TIE)?.table()?, near_ties(trace)?.table()?];
    let mut figures = Vec::from_iter(titled(&tables[0], words::sharpness(&tables[0])));
    if let Some(Figure { kind: FigureKind::Bars { y, .. }, caption, .. }) = figures.first_mut() {
        *y = "effective_choices".into();
        *caption = "Mean over tokens of the exponential of the entropy of the router's scores.".into();
    }
    Ok(Finding { tables, figures })
}

/// Which experts go together.
///
/// The clusters are there only where tokens choose several experts, and they are drawn for one layer. The
/// null of the strongest partners is a shuffle; see `coactivation` for what it keeps.
pub(crate) fn together_finding(
    trace: &RoutingTrace,
    permutations: Permutations,
) -> Result<Finding, AnalysisError> {
    let report = coactivation(trace, permutations)?;
    let mut tables = vec![report.table()?, report.by_pair()?];
    // One expert alone has no partner, and all together have no choice.
    if trace.layers().iter().all(|layer| layer.per_token == 1 || layer.per_token == layer.experts) {
        return Ok(Finding { tables, figures: Vec::new() });
    }
    let mut figures =
        Vec::from_iter(titled(&tables[0], words::together(&tables[0], "where tokens trade experts")));
    if let Some(clusters) = report.clusters() {
        tables.insert(1, clusters.table()?);
        figures.push(clusters.figure());
    }
    Ok(Finding { tables, figures })
}

/// What a token hands on to the next; none for a text without neighbours.
///
/// A trace of windows of one token is no error but a chapter less. Every other error is passed on.
pub(crate) fn locality_finding(
    trace: &RoutingTrace,
    permutations: Permutations,
) -> Result<Option<Finding>, AnalysisError> {
    match locality(trace, permutations) {
        Ok(report) => {
            let table = report.table()?;
            let figures =
                Vec::from_iter(titled(&table, words::locality(&table, "where tokens are shuffled")));
            Ok(Some(Finding { tables: vec![table], figures }))
        }
        Err(AnalysisError::TooFew { unit: "pairs of neighbouring tokens", .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the choice of an expert tells, and the layer where it tells most of the domain, the middle one for a single domain.
///
/// The map of lifts is drawn for the layer that tells most, chosen on the same tokens that the map shows. Its
/// lifts are therefore a little larger than those of a layer chosen beforehand; the table of information has
/// all layers, each beside its own null. `predicted`: the model's own next token after each token, where the model is at hand.
pub(crate) fn specialisation_finding(
    trace: &RoutingTrace,
    predicted: Option<Labels>,
    permutations: Permutations,
) -> Result<(Finding, usize), AnalysisError> {
    check::at_least("specialisation", "routed layers", trace.layers().len(), 1)?;
    let reports = specialisation_reports(trace, predicted, permutations)?;
    let mut tables = vec![information_table("specialisation", &reports)?, domain_load(trace)?.table()?];
    let mut figures = Vec::from_iter(titled(&tables[0], words::specialisation(&tables[0])));
    let domain = reports.iter().find(|report| report.label == "domain" && report.given.is_empty());
    let Some(domain) = domain else {
        return Ok((Finding { tables, figures }, trace.layers()[trace.layers().len() / 2].layer));
    };
    let layer = most_telling(domain);
    let resampling = Resampling {
        replicates: REPLICATES,
        level: 0.95,
        method: BootstrapMethod::Percentile,
        seed: permutations.seed.child("domain lift"),
    };
    let lift = domain_lift(trace, layer, resampling)?;
    tables.insert(1, lift.table()?);
    figures.push(lift.figure());
    Ok((Finding { tables, figures }, layer))
}

/// The layer whose experts tell most; of equals the first.
fn most_telling(report: &SpecialisationReport) -> usize {
    let tells = |at: usize| report.tests[at].information.excess();
    let best = (0..report.layers.len()).max_by(|a, b| tells(*a).total_cmp(&tells(*b)).then(b.cmp(a)));
    best.map_or(0, |at| report.layers[at])
}

/// Tests of every label that the text has.
///
/// Labels are the domain, the domain given the token, the token, the next token, the predicted one, the class of the
/// token and the position. A label with a single value tells nothing and is left out. The domain given the token is
/// there because vocabulary alone tells topics apart: what remains of the information once the token is known
/// is the better measure of a router that reads the context. The predicted token is tested as the true next one is:
/// routes move along documents. It is made of the same stream that the routers read, so that
/// information about it is no sign that an expert decides it; `expert-importance` and `route-patch` intervene.
fn specialisation_reports(
    trace: &RoutingTrace,
    predicted: Option<Labels>,
    permutations: Permutations,
) -> Result<Vec<SpecialisationReport>, AnalysisError> {
    let tokens = trace.tokens();
    let mut reports = Vec::new();
    if Labels::domain(tokens).values() > 1 {
        reports.push(domain_specialisation(trace, permutations)?);
        reports.push(domain_given_token(trace, permutations)?);
    }
    let first = [Labels::token(tokens), Labels::next_token(tokens)];
    let last = [Labels::class(tokens), Labels::position(tokens)];
    for label in first.into_iter().chain(predicted).chain(last) {
        if label.values() > 1 {
            reports.push(label_specialisation(trace, &label, permutations)?);
        }
    }
    Ok(reports)
}

/// How many paths there are, what they cover, what they tell, and where tokens flow.
///
/// Paths are counted twice: as sequences of whole sets of experts, and as sequences of first choices. For the
/// null of a label, paths are moved along documents; for that of the domain whole documents are exchanged, since all tokens of a
/// document have the same domain.
pub(crate) fn paths_finding(
    trace: &RoutingTrace,
    permutations: Permutations,
) -> Result<Finding, AnalysisError> {
    let tokens = trace.tokens();
    let mut tables = Vec::new();
    for kind in [PathKind::Sets, PathKind::FirstChoices] {
        tables.push(effective_number(trace, kind, permutations)?.table()?);
        tables.push(coverage(trace, kind, &MOST_USED)?.table()?);
    }
    let mut figures = vec![coverage_figure(&tables[0], &tables[1])];
    let token = Labels::token(tokens);
    let exchange = Exchange::Along(&tokens.documents);
    tables.push(path_information(trace, &token, exchange, permutations)?.table()?);
    let domain = Labels::domain(tokens);
    if domain.values() > 1 {
        let exchange = Exchange::Documents(&tokens.documents);
        tables.push(path_information(trace, &domain, exchange, permutations)?.table()?);
    }
    if trace.layers().len() > 1 {
        tables.push(cross_layer_information(trace, permutations)?.table()?);
    }
    if let Some(flows) = flows(trace, permutations.child("flows"))? {
        tables.push(flows.table()?);
        figures.push(flows.figure());
    }
    Ok(Finding { tables, figures })
}

fn coverage_figure(numbers: &Table, coverage: &Table) -> Figure {
    Figure {
        id: "paths_coverage".into(),
        title: words::paths(numbers).unwrap_or_else(|| numbers.title().to_owned()),
        caption: "Share of the tokens that take one of the most used paths, or in one layer one of the most used sets; dashed: all \
                  possible ones equally frequent."
            .into(),
        table: coverage.name().to_owned(),
        kind: FigureKind::Lines {
            x: "most_used".into(),
            y: "covered".into(),
            series: Some("unit".into()),
            log2_x: true,
        },
    }
}

/// The picture that a table suggests, with the finding as title.
pub(super) fn titled(table: &Table, finding: Option<String>) -> Option<Figure> {
    let figure = layer_figure(table)?;
    Some(Figure { title: finding.unwrap_or_else(|| table.title().to_owned()), ..figure })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use moescope_base::ColumnRole;
    use std::collections::BTreeSet;

    fn trace() -> RoutingTrace {
        let mut rng = Seed(8).rng();
        let text = planted::text(4, 60, 10, &mut rng);
        let routes = (0..2).map(|_| planted::random_sets(240, 6, 2, |_| 1.0, &mut rng)).collect();
        planted::trace(text, 6, 2, routes)
    }

    fn tables(chapters: &[Chapter]) -> Vec<&Table> {
        chapters.iter().flat_map(|chapter| &chapter.finding.tables).collect()
    }

    #[test]
    fn all_tables_have_names_of_their_own_and_do_not_depend_on_threads() {
        let threads = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        let run = || format!("{:?}", chapters(&trace(), Seed(1), 9, &[]).unwrap());
        assert_eq!(threads(1).install(run), threads(3).install(run));
        let chapters = chapters(&trace(), Seed(1), 9, &[]).unwrap();
        let tables = tables(&chapters);
        let names: BTreeSet<&str> = tables.iter().map(|table| table.name()).collect();
        assert_eq!(names.len(), tables.len());
        assert!(names.contains("specialisation") && names.contains("paths_cross_layer"));
    }

    #[test]
    fn what_is_predicted_is_told_where_experts_go_with_it_and_only_where_the_model_is_at_hand() {
        let text = planted::text(20, 20, 12, &mut Seed(3).rng());
        let noise = planted::random_sets(400, 4, 1, |_| 1.0, &mut Seed(4).rng());
        // Guessed from the next token but one, which no label of the text has.
        let predicted: Vec<u32> = (0..400).map(|t| text.ids[(t + 2) % 400] % 5).collect();
        let reads = predicted.iter().map(|id| id % 4).collect();
        let trace = planted::trace(text, 4, 1, vec![reads, noise]);
        let run =
            |predicted| specialisation_finding(&trace, predicted, Permutations::new(99, Seed(1))).unwrap().0;
        let rows = |finding: &Finding| {
            let table = &finding.tables[0];
            let p = table.companion(ColumnRole::PValue, "information").unwrap();
            let of = |row: &usize| table.column("label").unwrap().data.label(*row) == "predicted_token";
            (0..table.rows()).filter(of).map(|row| p.data.number(row).unwrap()).collect::<Vec<f64>>()
        };
        let found = rows(&run(Some(Labels::predicted_token(&predicted))));
        assert!(found[0] <= 0.01 && found[1] > 0.05, "{found:?}");
        assert!(
            rows(&run(None)).is_empty() && rows(&run(Some(Labels::predicted_token(&[7; 400])))).is_empty()
        );
    }

    #[test]
    fn every_chapter_has_a_finding_and_every_picture_a_table() {
        for chapter in chapters(&trace(), Seed(1), 9, &[]).unwrap() {
            assert!(!chapter.finding.figures.is_empty(), "{}", chapter.id);
            for figure in &chapter.finding.figures {
                let table = chapter.finding.tables.iter().find(|table| table.name() == figure.table).unwrap();
                assert_ne!(figure.title, table.title(), "the title tells what was found: {}", figure.id);
            }
        }
    }

    #[test]
    fn one_expert_for_each_token_has_no_partners_to_tell_of() {
        let mut rng = Seed(9).rng();
        let text = planted::text(4, 20, 10, &mut rng);
        let trace = planted::trace(text, 4, 1, vec![planted::random_sets(80, 4, 1, |_| 1.0, &mut rng)]);
        let together = together_finding(&trace, Permutations::new(9, Seed(1))).unwrap();
        assert!(together.figures.is_empty() && together.tables.len() == 2);
    }

    #[test]
    fn one_domain_and_one_layer_leave_out_what_needs_two() {
        let tokens = planted::tokens(vec![1, 2, 3], vec![0; 3], vec![0, 1, 2]);
        let trace = planted::trace(tokens, 4, 1, vec![vec![0, 1, 2]]);
        let chapters = chapters(&trace, Seed(1), 9, &[]).unwrap();
        let absent = |name: &str| tables(&chapters).iter().all(|table| table.name() != name);
        assert!(
            absent("routing_locality") && absent("paths_cross_layer") && absent("paths_information_domain")
        );
        assert!(absent("routing_passages") && absent("paths_flows") && absent("specialisation_lift"));
    }
}
