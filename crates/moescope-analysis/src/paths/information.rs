use moescope_base::{Column, Table};
use moescope_trace::RoutingTrace;

use super::{Interned, PathKind, Paths};
use crate::AnalysisError;
use crate::routing::{NullComparison, Permutations, comparison_columns};
use crate::specialisation::{Choices, Exchange, InformationTest, Labels, information, information_each};

/// What one unit tells about the label.
#[derive(Clone, Debug, PartialEq)]
pub struct PathInformation {
    /// `path`, `first-choice path`, `set of layer L` or `expert of layer L`.
    pub unit: String,
    /// Block; none for whole paths.
    pub layer: Option<usize>,
    /// Distinct values that the unit took.
    pub values: usize,
    /// Bits per token, or per routed slot for single experts, beside the null.
    pub test: InformationTest,
}

/// What paths, sets and single experts tell about one label, all under the same draws of the null.
#[derive(Clone, Debug, PartialEq)]
pub struct PathInformationReport {
    /// Name of the label.
    pub label: String,
    /// Whole paths first, then sets, then experts, by layer.
    pub units: Vec<PathInformation>,
}

/// Information of whole paths about a label, beside that of single sets and single experts.
///
/// Paths have far more values than experts, so their plug-in information is close to everything there is even when
/// there is nothing to find: read `adjusted_share` of the tests, where the null has been taken out.
///
/// - **Does not show:** purity in a causal sense. A path joins all layers, so it carries at least what any of its layers
///   carries, up to estimation; the question is how much more.
///
/// # Errors
/// As [`information`]; also if the trace has no routed layer.
pub fn path_information(
    trace: &RoutingTrace,
    label: &Labels,
    exchange: Exchange<'_>,
    permutations: Permutations,
) -> Result<PathInformationReport, AnalysisError> {
    let sets = Paths::of(trace, PathKind::Sets)?;
    let first = Paths::of(trace, PathKind::FirstChoices)?;
    let mut units = vec![
        ("path".to_owned(), None, one_per_token(&sets.paths)?),
        ("first-choice path".to_owned(), None, one_per_token(&first.paths)?),
    ];
    for (layer, stops) in sets.layers.iter().zip(&sets.stops) {
        units.push((format!("set of layer {layer}"), Some(*layer), one_per_token(stops)?));
    }
    for layer in trace.layers() {
        units.push((format!("expert of layer {}", layer.layer), Some(layer.layer), Choices::experts(layer)));
    }
    let choices: Vec<Choices<'_>> = units.iter().map(|(.., c)| *c).collect();
    let permutations = permutations.child("path").child(label.name());
    let tests = information_each(&choices, label, None, exchange, permutations)?;
    let report = |((unit, layer, choices), test): ((String, Option<usize>, Choices<'_>), InformationTest)| {
        PathInformation { unit, layer, values: choices.values(), test }
    };
    Ok(PathInformationReport {
        label: label.name().to_owned(),
        units: units.into_iter().zip(tests).map(report).collect(),
    })
}

fn one_per_token(things: &Interned) -> Result<Choices<'_>, AnalysisError> {
    Choices::new(&things.ids, 1, things.distinct)
}

/// Information between the sets of neighbouring routed layers.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossLayerReport {
    /// Pairs of blocks.
    pub pairs: Vec<(usize, usize)>,
    /// I(S_l; S_{l+1}), bits per token; null: sets moved along documents.
    pub marginal: Vec<InformationTest>,
    /// I(S_l; S_{l+1} | token), bits per token; null: sets exchanged between occurrences of the same token. What is
    /// left when both layers merely read the token is 0. What documents make both layers share is no null: it is found.
    pub given_token: Vec<InformationTest>,
}

/// Information between the sets that a token takes in neighbouring routed layers, with and without the token given.
///
/// # Errors
/// As [`information`]; also if the trace has no routed layer. One routed layer gives an empty report.
pub fn cross_layer_information(
    trace: &RoutingTrace,
    permutations: Permutations,
) -> Result<CrossLayerReport, AnalysisError> {
    let paths = Paths::of(trace, PathKind::Sets)?;
    let token = Labels::token(trace.tokens());
    let along = Exchange::Along(&trace.tokens().documents);
    let mut report = CrossLayerReport { pairs: Vec::new(), marginal: Vec::new(), given_token: Vec::new() };
    for (layers, stops) in paths.layers.windows(2).zip(paths.stops.windows(2)) {
        let (choices, label) = (one_per_token(&stops[0])?, Labels::new("next set", &stops[1].ids));
        let permutations = permutations.child("cross-layer").index(layers[0]);
        report.pairs.push((layers[0], layers[1]));
        report.marginal.push(information(choices, &label, None, along, permutations)?);
        report.given_token.push(information(choices, &label, Some(&token), Exchange::Tokens, permutations)?);
    }
    Ok(report)
}

impl PathInformationReport {
    /// One row for each unit.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let real =
            |f: fn(&InformationTest) -> f64| self.units.iter().map(|u| f(&u.test)).collect::<Vec<f64>>();
        let comparisons: Vec<NullComparison> = self.units.iter().map(|u| u.test.information).collect();
        let mut columns = vec![
            Column::key("label", "what the unit is asked about", vec![self.label.clone(); self.units.len()]),
            Column::key(
                "unit",
                "what tells about the label",
                self.units.iter().map(|u| u.unit.clone()).collect(),
            ),
            Column::count(
                "values",
                "values",
                "distinct values of the unit",
                self.units.iter().map(|u| u.values as i64).collect(),
            ),
        ];
        let meaning =
            "plug-in mutual information; far too high for units of many values, read the adjusted share";
        columns.extend(comparison_columns("information", "bits", meaning, "exchange", &comparisons));
        columns.push(Column::observations(
            "information",
            "tokens",
            self.units.iter().map(|u| u.test.tokens as i64).collect(),
        ));
        columns.extend([
            Column::estimate(
                "share",
                "share of label entropy",
                "excess over entropy of the label",
                real(InformationTest::share),
            ),
            Column::estimate(
                "adjusted_share",
                "share",
                "excess over what was left to find above the null",
                real(InformationTest::adjusted_share),
            ),
        ]);
        let method = "Mutual information by counting, minus its mean under permutations shared by all units. For \
                      experts per routed slot, else per token.";
        let name = format!("paths_information_{}", self.label);
        Ok(Table::new(name, "What paths tell beyond single experts", method, columns)?)
    }
}

impl CrossLayerReport {
    /// One row for each pair of neighbouring routed layers.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let each = |tests: &[InformationTest]| -> Vec<NullComparison> {
            tests.iter().map(|t| t.information).collect()
        };
        let mut columns = vec![
            Column::integer_key("layer", "", "block", self.pairs.iter().map(|p| p.0 as i64).collect()),
            Column::integer_key(
                "next_layer",
                "",
                "next routed block",
                self.pairs.iter().map(|p| p.1 as i64).collect(),
            ),
        ];
        let meaning = "plug-in information between the sets of the two layers";
        let null = "sets moved along documents";
        columns.extend(comparison_columns("information", "bits", meaning, null, &each(&self.marginal)));
        let meaning = "the same, given the token";
        let null = "occurrences of the same token exchanged";
        columns.extend(comparison_columns("given_token", "bits", meaning, null, &each(&self.given_token)));
        columns.push(Column::observations(
            "information",
            "tokens",
            self.marginal.iter().map(|t| t.tokens as i64).collect(),
        ));
        columns.push(Column::estimate(
            "adjusted_share",
            "share",
            "of what was left to find about the next set",
            self.marginal.iter().map(InformationTest::adjusted_share).collect(),
        ));
        let method = "Mutual information between the sets of neighbouring routed layers, by counting, minus its mean \
                      under permutations.";
        Ok(Table::new("paths_cross_layer", "What a layer's set tells about the next", method, columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use moescope_base::Seed;
    use proptest::prelude::*;
    use rand::RngExt;

    fn draw(n: usize, limit: u32, seed: u64) -> Vec<u32> {
        let mut rng = Seed(seed).rng();
        (0..n).map(|_| rng.random_range(0..limit)).collect()
    }

    fn trace(ids: Vec<u32>, routes: Vec<Vec<u32>>) -> RoutingTrace {
        let n = ids.len();
        planted::trace(
            planted::tokens(ids, vec![0; n], (0..n as u32).map(|t| t / 20).collect()),
            16,
            1,
            routes,
        )
    }

    fn unit<'a>(report: &'a PathInformationReport, name: &str) -> &'a PathInformation {
        report.units.iter().find(|u| u.unit == name).unwrap()
    }

    #[test]
    fn what_only_the_path_knows_is_found_in_the_path_alone() {
        // The label is whether the two layers agree: neither knows it, both together do.
        let (first, second) = (draw(300, 2, 1), draw(300, 2, 2));
        let label: Vec<u32> = first.iter().zip(&second).map(|(a, b)| a ^ b).collect();
        let trace = trace(label.clone(), vec![first, second]);
        let label = Labels::new("parity", &label);
        let report =
            path_information(&trace, &label, Exchange::Tokens, Permutations::new(39, Seed(3))).unwrap();
        assert!((unit(&report, "path").test.adjusted_share() - 1.0).abs() < 1e-9);
        for single in ["set of layer 0", "set of layer 1", "expert of layer 0", "expert of layer 1"] {
            assert!(unit(&report, single).test.adjusted_share().abs() < 0.03, "{single}");
        }
        assert_eq!(report.table().unwrap().rows(), 6);
    }

    #[test]
    fn many_paths_that_know_nothing_are_corrected_to_nothing() {
        let p_value = |seed| {
            let routes = (0..3).map(|l| draw(120, 16, 10 * seed + l)).collect();
            let trace = trace(draw(120, 4, 10 * seed + 7), routes);
            let label = Labels::token(trace.tokens());
            let report =
                path_information(&trace, &label, Exchange::Tokens, Permutations::new(19, Seed(seed)))
                    .unwrap();
            let path = &report.units[0];
            assert!(path.test.information.observed > 1.8 && path.test.excess().abs() < 0.1);
            path.test.information.p_value
        };
        let rate = planted::rejection_rate(200, p_value);
        assert!(rate <= planted::HIGHEST_RATE, "{rate}");
    }

    #[test]
    fn layers_that_both_read_the_token_are_independent_given_the_token() {
        let ids = draw(400, 8, 1);
        let (noise, other) = (draw(400, 2, 2), draw(400, 2, 3));
        let read =
            |noise: &[u32]| -> Vec<u32> { ids.iter().zip(noise).map(|(id, x)| 2 * (id / 2) + x).collect() };
        let permutations = Permutations::new(39, Seed(5));
        let independent =
            cross_layer_information(&trace(ids.clone(), vec![read(&noise), read(&other)]), permutations)
                .unwrap();
        assert!(
            independent.marginal[0].information.p_value <= 0.025 && independent.marginal[0].excess() > 1.5
        );
        assert!(independent.given_token[0].excess().abs() < 0.03);
        assert!(independent.given_token[0].information.p_value > 0.05);
        let locked =
            cross_layer_information(&trace(ids.clone(), vec![read(&noise), read(&noise)]), permutations)
                .unwrap();
        assert!(locked.given_token[0].information.p_value <= 0.025 && locked.given_token[0].excess() > 0.8);
        assert_eq!((locked.pairs.clone(), locked.table().unwrap().rows()), (vec![(0, 1)], 1));
    }

    proptest! {
        #[test]
        fn the_names_of_experts_are_immaterial(seed in 0u64..200) {
            let trace = trace(draw(40, 4, seed), vec![draw(40, 5, seed + 1), draw(40, 5, seed + 2)]);
            let run = |t: &RoutingTrace| {
                let permutations = Permutations::new(5, Seed(seed));
                let label = Labels::token(t.tokens());
                let report = path_information(t, &label, Exchange::Tokens, permutations).unwrap();
                (report, cross_layer_information(t, permutations).unwrap())
            };
            prop_assert_eq!(run(&trace), run(&planted::renamed(&trace, seed)));
        }
    }
}
