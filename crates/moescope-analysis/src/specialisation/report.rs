use moescope_base::{Column, Table};
use moescope_trace::RoutingTrace;

use super::{Choices, Exchange, InformationTest, Labels, information_each};
use crate::AnalysisError;
use crate::routing::{NullComparison, Permutations, comparison_columns};

/// What the expert choice of every layer tells about one label.
#[derive(Clone, Debug, PartialEq)]
pub struct SpecialisationReport {
    /// Name of the label.
    pub label: String,
    /// Name of what was given; empty for none.
    pub given: String,
    /// What the null exchanged.
    pub exchanged: &'static str,
    /// Routed layers.
    pub layers: Vec<usize>,
    /// One test for each layer.
    pub tests: Vec<InformationTest>,
}

impl SpecialisationReport {
    /// One row for each layer.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        information_table("specialisation", std::slice::from_ref(self))
    }
}

/// Information between the experts of each layer and a label, all layers under the same draws of the null.
///
/// Unit, null and limits are those of [`InformationTest`].
///
/// # Errors
/// As [`information`](super::information).
pub fn specialisation(
    trace: &RoutingTrace,
    label: &Labels,
    given: Option<&Labels>,
    exchange: Exchange<'_>,
    permutations: Permutations,
) -> Result<SpecialisationReport, AnalysisError> {
    let choices: Vec<Choices<'_>> = trace.layers().iter().map(Choices::experts).collect();
    Ok(SpecialisationReport {
        label: label.name().to_owned(),
        given: given.map_or("", Labels::name).to_owned(),
        exchanged: match (exchange, given.is_some()) {
            (Exchange::Documents(_), _) => "labels of documents",
            (Exchange::Along(_), _) => "routes along documents",
            (Exchange::Tokens, false) => "routes of tokens",
            (Exchange::Tokens, true) => "routes of tokens that agree in what is given",
        },
        layers: trace.layers().iter().map(|l| l.layer).collect(),
        tests: information_each(&choices, label, given, exchange, permutations)?,
    })
}

/// Information between expert and domain; labels move between whole documents.
///
/// Few documents can be exchanged in few ways: with two documents in each of two domains no p-value is below 1/3.
///
/// # Errors
/// As [`specialisation`]; also if a document spans domains.
pub fn domain_specialisation(
    trace: &RoutingTrace,
    permutations: Permutations,
) -> Result<SpecialisationReport, AnalysisError> {
    let tokens = trace.tokens();
    let exchange = Exchange::Documents(&tokens.documents);
    specialisation(trace, &Labels::domain(tokens), None, exchange, permutations.child("domain"))
}

/// Information between expert and domain given the token: topic without vocabulary.
///
/// The null exchanges the domains of whole documents, as that of [`domain_specialisation`] does: occurrences of a token in one document are
/// not independent, since what the document speaks of moves all of its routes, and a null that exchanged them one by one would call
/// any difference between documents one between domains.
///
/// # Errors
/// As [`specialisation`].
pub fn domain_given_token(
    trace: &RoutingTrace,
    permutations: Permutations,
) -> Result<SpecialisationReport, AnalysisError> {
    let tokens = trace.tokens();
    let (domain, token) = (Labels::domain(tokens), Labels::token(tokens));
    let exchange = Exchange::Documents(&tokens.documents);
    specialisation(trace, &domain, Some(&token), exchange, permutations.child("domain given token"))
}

/// Information between expert and any label of tokens; routes are moved along documents.
///
/// What a document's subject alone makes expert and label share is part of the null. Where stretches of neighbours that are alike are long
/// beside documents, the break where the end of a document meets its beginning makes the test a little liberal: one alarm of nine
/// instead of one of twenty where they are a fifth as long. Documents of a few tokens often stay where they are: the test is then blunt, and the excess
/// too small.
///
/// # Errors
/// As [`specialisation`].
pub fn label_specialisation(
    trace: &RoutingTrace,
    label: &Labels,
    permutations: Permutations,
) -> Result<SpecialisationReport, AnalysisError> {
    let exchange = Exchange::Along(&trace.tokens().documents);
    specialisation(trace, label, None, exchange, permutations.child(label.name()))
}

/// Several reports as one table, one row for each label and layer.
///
/// # Errors
/// If the columns make no table.
pub fn information_table(name: &str, reports: &[SpecialisationReport]) -> Result<Table, AnalysisError> {
    let rows: Vec<(&SpecialisationReport, usize, &InformationTest)> = reports
        .iter()
        .flat_map(|r| r.layers.iter().zip(&r.tests).map(move |(layer, test)| (r, *layer, test)))
        .collect();
    let text = |f: fn(&SpecialisationReport) -> &str| rows.iter().map(|(r, ..)| f(r).to_owned()).collect();
    let real = |f: fn(&InformationTest) -> f64| rows.iter().map(|(.., test)| f(test)).collect::<Vec<f64>>();
    let comparisons: Vec<NullComparison> = rows.iter().map(|(.., test)| test.information).collect();
    let mut columns = vec![
        Column::key("label", "what the choice is asked about", text(|r| &r.label)),
        Column::key("given", "what is known already; empty for nothing", text(|r| &r.given)),
        Column::key("exchanged", "what the null exchanges", text(|r| r.exchanged)),
        Column::integer_key("layer", "", "block", rows.iter().map(|(_, layer, _)| *layer as i64).collect()),
    ];
    let meaning = "plug-in mutual information between expert and label; biased upward, read the excess";
    columns.extend(comparison_columns(
        "information",
        "bits per routed slot",
        meaning,
        "exchange",
        &comparisons,
    ));
    let tokens = rows.iter().map(|(.., test)| test.tokens as i64).collect();
    columns.push(Column::observations("information", "tokens", tokens));
    columns.push(Column::estimate(
        "share",
        "share of label entropy",
        "excess information over the entropy of the label",
        real(InformationTest::share),
    ));
    columns.push(Column::estimate(
        "adjusted_share",
        "share",
        "excess information over what was left to find above the null",
        real(InformationTest::adjusted_share),
    ));
    columns.push(Column::estimate(
        "label_entropy",
        "bits",
        "what there was to know",
        real(|t| t.label_entropy),
    ));
    let method = "Mutual information by counting, minus its mean under permutations that keep the load of every \
                  expert. Tokens are not independent; where documents are exchanged, documents are the unit.";
    Ok(Table::new(name, "What the expert choice tells about the token", method, columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use moescope_base::Seed;
    use rand::RngExt;

    /// Layer 0 reads the domain, layer 1 nothing.
    fn trace() -> RoutingTrace {
        let mut rng = Seed(1).rng();
        let text = planted::text(20, 20, 6, &mut rng);
        let noise = planted::random_sets(400, 4, 2, |_| 1.0, &mut rng);
        let domain = text.domains.iter().flat_map(|d| [2 * u32::from(*d), 2 * u32::from(*d) + 1]).collect();
        planted::trace(text, 4, 2, vec![domain, noise])
    }

    #[test]
    fn the_layer_that_reads_the_domain_is_told_from_the_one_that_does_not() {
        let permutations = Permutations::new(99, Seed(2));
        for report in [
            domain_specialisation(&trace(), permutations).unwrap(),
            domain_given_token(&trace(), permutations).unwrap(),
        ] {
            assert!(report.tests[0].adjusted_share() > 0.9 && report.tests[0].information.p_value <= 0.01);
            assert!(report.tests[1].adjusted_share() < 0.02 && report.tests[1].information.p_value > 0.05);
        }
    }

    /// Routes and classes come in stretches of their own: a null that exchanged single tokens would find something in most seeds.
    #[test]
    fn what_comes_in_stretches_is_not_taken_for_what_goes_together() {
        let p_value = |seed: u64, along: bool| {
            let mut rng = Seed(seed).rng();
            let text = planted::text(8, 240, 3, &mut rng);
            let mut stretches = |values: u32, length: usize| -> Vec<u32> {
                let mut value = 0;
                let mut next = |_: usize| {
                    if rng.random_range(0..length) == 0 {
                        value = rng.random_range(0..values);
                    }
                    value
                };
                (0..text.len()).map(&mut next).collect()
            };
            let (routes, classes) = (stretches(4, 8), stretches(3, 8));
            let label = Labels::new("class", &classes);
            let documents = text.documents.clone();
            let trace = planted::trace(text.clone(), 4, 1, vec![routes]);
            let permutations = Permutations::new(39, Seed(seed));
            let exchange = if along { Exchange::Along(&documents) } else { Exchange::Tokens };
            let found = specialisation(&trace, &label, None, exchange, permutations).unwrap();
            found.tests[0].information.p_value
        };
        let rate = planted::rejection_rate(200, |seed| p_value(seed, true));
        // Binomial with 200 draws of 0.05: above 18 in less than one of a hundred.
        assert!(rate <= 18.0 / 200.0, "{rate}");
        assert!(planted::rejection_rate(40, |seed| p_value(seed, false)) > 0.5);
    }

    /// Every document prefers an expert of its own, whatever its domain: a null that exchanged single tokens would find this in each seed.
    #[test]
    fn documents_that_differ_are_not_taken_for_domains_that_do() {
        let alarms = (0..200).filter(|seed| {
            let mut rng = Seed(*seed).rng();
            let text = planted::text(16, 12, 3, &mut rng);
            let moods = planted::random_sets(16, 4, 1, |_| 1.0, &mut rng);
            let noise = planted::random_sets(text.len(), 4, 1, |_| 1.0, &mut rng);
            let routes = (0..text.len()).map(|token| match token % 2 {
                0 => moods[text.documents[token] as usize],
                _ => noise[token],
            });
            let trace = planted::trace(text.clone(), 4, 1, vec![routes.collect()]);
            let found = domain_given_token(&trace, Permutations::new(39, Seed(*seed))).unwrap();
            found.tests[0].information.p_value <= 0.05
        });
        // Binomial with 200 draws of 0.05: above 18 in less than one of a hundred.
        let alarms = alarms.count();
        assert!(alarms <= 18, "{alarms} of 200");
    }

    #[test]
    fn the_table_has_a_row_for_each_label_and_layer_with_null_and_p() {
        let (trace, permutations) = (trace(), Permutations::new(9, Seed(2)));
        let token = label_specialisation(&trace, &Labels::token(trace.tokens()), permutations).unwrap();
        let domain = domain_specialisation(&trace, permutations).unwrap();
        assert_eq!(token.table().unwrap().rows(), 2);
        let table = information_table("specialisation", &[token, domain]).unwrap();
        assert_eq!((table.rows(), table.columns()[0].data.label(2)), (4, "domain".to_owned()));
        for companion in ["information_null", "information_null_low", "information_p", "information_n"] {
            assert!(table.column(companion).is_some(), "{companion}");
        }
    }
}
