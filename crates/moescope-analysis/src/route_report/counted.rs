//! Chapters over routes that were counted: the same headings as those of a trace, with what sums alone can tell.
//!
//! Sums over any number of stores have no tokens left to shuffle, so nothing is tested here: every number stands beside a null that is a
//! formula, and the words claim no more than that.

use moescope_base::{Figure, FigureKind, Table};

use super::chapters::{Chapter, titled};
use super::{counted_words, words};
use crate::instrument::Finding;

/// One chapter: identifier, heading, limits, and the tables that belong to it.
type Plan = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// Chapters in their order; a chapter without its first table is left out.
const PLANS: [Plan; 9] = [
    (
        "load",
        "Load",
        "Specialisation: a router that draws at random is even as well.",
        &["routing_load", "counted_load_by_expert", "routing_load_over_layers"],
    ),
    (
        "sharpness",
        "Sharpness of the choice",
        "Whether the choice matters for the loss.",
        &["routing_sharpness", "routing_near_ties"],
    ),
    (
        "together",
        "Experts that go together",
        "Why they do: experts that like the same tokens go together without knowing of each other.",
        &["counted_coactivation", "routing_coactivation_pairs"],
    ),
    (
        "locality",
        "From token to token",
        "Whether neighbours keep experts because they are alike or because they are near.",
        &["counted_handover"],
    ),
    (
        "committee",
        "Standing committees",
        "That the committee is needed, nor that its experts do the same for every domain.",
        &["counted_committee", "counted_committee_domains"],
    ),
    (
        "specialisation",
        "Specialisation",
        "What experts compute, nor a test: slots of a token and of a document are not independent.",
        &["counted_specialisation", "specialisation_by_domain"],
    ),
    (
        "predictability",
        "What the text foretells",
        "That the router looks at the token and not at what goes with it.",
        &["counted_predictability"],
    ),
    (
        "paths",
        "Paths",
        "That paths are needed: this counts, and does not intervene.",
        &["counted_paths", "counted_path_labels", "counted_next_layer"],
    ),
    (
        "cache",
        "Caches of experts",
        "Time: what a miss costs depends on the machine.",
        &["counted_expert_cache"],
    ),
];

/// The tables of counted routes in chapters, each with its pictures; titles say what was found.
///
/// No table is lost: what belongs to no chapter here stands in a last one, without pictures.
pub fn counted_chapters(mut tables: Vec<Table>) -> Vec<Chapter> {
    let mut chapters = Vec::new();
    for (id, heading, limits, names) in PLANS {
        let (mut own, others): (Vec<Table>, Vec<Table>) =
            tables.into_iter().partition(|table| names.contains(&table.name()));
        tables = others;
        own.sort_by_key(|table| names.iter().position(|name| *name == table.name()));
        if !own.is_empty() {
            let figures = own.iter().filter_map(figure).collect();
            chapters.push(Chapter { id, heading, finding: Finding { tables: own, figures }, limits });
        }
    }
    if !tables.is_empty() {
        let finding = Finding { tables, figures: Vec::new() };
        chapters.push(Chapter { id: "other", heading: "Other counts", finding, limits: "" });
    }
    chapters
}

/// The picture of a counted table, with what it found as title; none for tables that are there to be looked up.
fn figure(table: &Table) -> Option<Figure> {
    let by_load = "from the loads alone";
    let told = match table.name() {
        "routing_load" => words::load(table),
        "counted_load_by_expert" => words::load_by_expert(table),
        "routing_sharpness" => words::sharpness(table),
        "counted_coactivation" => words::together(table, by_load),
        "counted_handover" => words::locality(table, by_load),
        "counted_specialisation" => counted_words::specialisation(table),
        "counted_next_layer" => counted_words::next_layer(table),
        "counted_committee" => return committee(table),
        "counted_committee_domains" => return committee_domains(table),
        "counted_predictability" => return foretold(table),
        "counted_path_labels" => return path_labels(table),
        "counted_expert_cache" => return cache(table),
        "counted_paths" => return paths(table),
        _ => None,
    }?;
    let mut figure = titled(table, Some(told))?;
    if let (FigureKind::Bars { y, .. }, "routing_sharpness") = (&mut figure.kind, table.name()) {
        *y = "effective_choices".into();
        figure.caption = "Mean over tokens of the exponential of the entropy of the router's scores.".into();
    }
    Some(figure)
}

/// A picture of a counted table; pictures are named after their tables.
fn picture(table: &Table, title: String, caption: &str, kind: FigureKind) -> Option<Figure> {
    let id = format!("{}_figure", table.name());
    Some(Figure { id, title, caption: caption.into(), table: table.name().to_owned(), kind })
}

/// How many experts hold most of the weight, by layer.
fn committee(table: &Table) -> Option<Figure> {
    let caption =
        "Least number of experts that hold 70 % of the routed weight; beside it that of an even load.";
    let kind = FigureKind::Bars { x: "layer".into(), y: "size".into(), series: None };
    picture(table, counted_words::committee(table)?, caption, kind)
}

/// What domains have in common, by layer.
fn committee_domains(table: &Table) -> Option<Figure> {
    let caption = "What the shares of weight of two domains have in common, mean over pairs; beside it the two halves of one domain's documents.";
    let kind = FigureKind::Bars { x: "layer".into(), y: "weight".into(), series: None };
    picture(table, counted_words::committee_domains(table)?, caption, kind)
}

/// What each predictor foretells, by layer.
fn foretold(table: &Table) -> Option<Figure> {
    let caption = "Share of a token's experts that are guessed from the other half of the documents; beside it the most used experts of the layer.";
    let kind = FigureKind::Bars { x: "layer".into(), y: "overlap".into(), series: Some("predictor".into()) };
    picture(table, counted_words::foretold(table)?, caption, kind)
}

/// What paths name of each label.
fn path_labels(table: &Table) -> Option<Figure> {
    let caption = "Share of tokens whose label is the most frequent one of their path in the other half of the documents; beside it the most \
                   frequent label of all.";
    let kind = FigureKind::Bars { x: "kind".into(), y: "named".into(), series: Some("label".into()) };
    picture(table, counted_words::path_labels(table)?, caption, kind)
}

/// What caches of each size find, a line for each layer.
fn cache(table: &Table) -> Option<Figure> {
    let caption = "Share of routed slots whose expert is in a cache of the given size; bands are 95 % intervals over documents.";
    let (x, y) = ("room".into(), "hit_rate".into());
    let kind = FigureKind::Lines { x, y, series: Some("layer".into()), log2_x: false };
    picture(table, counted_words::cache(table)?, caption, kind)
}

/// Entropy of whole paths and of the sets of each layer.
fn paths(table: &Table) -> Option<Figure> {
    let caption = "Entropy of whole paths and of the sets of each layer, corrected for what was not seen; beside it all possible ones equally \
                   frequent.";
    let kind = FigureKind::Bars { x: "unit".into(), y: "entropy".into(), series: Some("kind".into()) };
    picture(table, words::paths(table)?, caption, kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counting::{CountingPlan, RouteCounts};
    use crate::routing::planted;
    use moescope_base::{ColumnRole, Seed};

    fn counted(layers: usize, per_token: usize) -> Vec<Table> {
        let mut rng = Seed(8).rng();
        let text = planted::text(8, 60, 10, &mut rng);
        let routes =
            (0..layers).map(|_| planted::random_sets(480, 6, per_token, |_| 1.0, &mut rng)).collect();
        let trace = planted::trace(text, 6, per_token, routes);
        let mut counts =
            RouteCounts::new(CountingPlan { token_rows: 64, paths: 4096, ..CountingPlan::default() })
                .unwrap();
        counts.add(&trace, "one").unwrap();
        counts.tables().unwrap()
    }

    #[test]
    fn every_chapter_has_a_finding_and_no_table_is_lost() {
        let tables = counted(2, 2);
        let chapters = counted_chapters(tables.clone());
        let kept: usize = chapters.iter().map(|chapter| chapter.finding.tables.len()).sum();
        assert_eq!(kept, tables.len());
        assert_eq!(chapters.len(), PLANS.len(), "every table of a count has a chapter");
        for chapter in &chapters {
            assert!(!chapter.finding.figures.is_empty(), "{}", chapter.id);
            for figure in &chapter.finding.figures {
                let table = chapter.finding.tables.iter().find(|table| table.name() == figure.table).unwrap();
                assert_ne!(figure.title, table.title(), "the title tells what was found: {}", figure.id);
                let FigureKind::Bars { y, .. } = &figure.kind else { continue };
                let role = table.column(y).map(|column| column.role.clone());
                assert!(matches!(role, Some(ColumnRole::Estimate)), "{}: {y} is no finding", figure.id);
                assert!(!["set", "experts"].contains(&y.as_str()), "{}", figure.id);
            }
        }
    }

    #[test]
    fn words_that_no_test_supports_claim_none() {
        let chapters = counted_chapters(counted(2, 2));
        let titles: Vec<&str> =
            chapters.iter().flat_map(|c| &c.finding.figures).map(|figure| figure.title.as_str()).collect();
        assert!(titles.iter().any(|title| title.contains("not tested")), "{titles:?}");
        assert!(titles.iter().any(|title| title.contains("from the loads alone")), "{titles:?}");
        assert!(titles.iter().all(|title| !title.contains("NaN") && !title.contains("p ≤")), "{titles:?}");
    }

    #[test]
    fn one_layer_and_an_unknown_table_make_no_trouble() {
        let mut tables = counted(1, 1);
        tables.push(
            Table::new("unknown", "T", "", vec![moescope_base::Column::estimate("x", "", "x", vec![1.0])])
                .unwrap(),
        );
        let chapters = counted_chapters(tables);
        assert_eq!(chapters.last().map(|chapter| chapter.id), Some("other"));
    }
}
