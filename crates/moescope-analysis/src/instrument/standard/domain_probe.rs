//! The instrument `domain-probe`: linear probes for the domain, and for the class of the token, after every block.
//!
//! The class follows from the token itself. It stands beside the domain to show what a probe reads that has learned tokens by heart: its control, random labels of
//! tokens, is read as well.

use moescope_base::{Figure, FigureKind, Table};

use super::gives;
use crate::instrument::{
    About, Finding, Group, Instrument, Material, Promise, Property, Reading, ResidualStream, Rule,
};
use crate::probe::{
    DescriptionLength, Probe, ProbeOptions, ProbeTask, description_length, length_table, probe,
    table as probe_table,
};
use crate::tabulate::layers_after;
use crate::{AnalysisError, check};

/// The instrument.
pub(in crate::instrument) struct DomainProbe;

/// Tokens that the probe is fitted on and judged by.
const TOKENS: usize = 3000;
const DOMAIN: &str = "domain";
const CLASS: &str = "token class";

const READS: Reading = Reading {
    says: "the domain is read",
    table: "domain_probe",
    rows: &[("layer", "1"), ("label", DOMAIN)],
    value: "accuracy",
    rule: Rule::Above(1.0),
};

const SHORTENS: Reading = Reading {
    says: "the domain is written shorter",
    table: "domain_probe_length",
    rows: &[],
    value: "saved",
    rule: Rule::MoreThan(0.0),
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::DomainRoutes, READS),
    Promise::is_silent(Property::TokenRoutes, READS),
    Promise::is_silent(Property::RandomRoutes, READS),
    Promise::finds(Property::DomainWords, SHORTENS),
    Promise::is_silent(Property::TokenRoutes, SHORTENS),
    Promise::is_silent(Property::RandomRoutes, SHORTENS),
];

/// A label that is read after every block.
struct Read {
    label: &'static str,
    /// One for each block.
    probes: Vec<(String, Probe)>,
}

impl Instrument for DomainProbe {
    fn about(&self) -> About {
        About {
            name: "domain-probe",
            group: Group::Representation,
            question: "Can the domain of the text, and the class of the token, be read linearly from the residual stream, and after which block?",
            null: "the most frequent class; and random labels of token types, which a memory of tokens reads",
            does_not_show: "that the model uses what can be read",
            source: "Alain and Bengio 2016; control tasks, Hewitt and Liang 2019; online code, Voita and Titov 2020",
            passes: "one for each batch of an excerpt",
            routed: false,
            gives: gives::DOMAIN_PROBE,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let domains = material.domain_names().len();
        check::at_least("probe for the domain", "domains", domains, 2)?;
        let classes = material.batches[0].1.class_names.len();
        let stream = material.residual_stream(TOKENS)?;
        // The same folds, controls and order of documents after every block, so that blocks can be compared.
        let options = ProbeOptions {
            folds: 3,
            penalty: 1e-2,
            controls: 1,
            replicates: material.replicates,
            seed: material.seed.child("domain probe"),
        };
        let mut read = vec![read(&stream, DOMAIN, (&stream.domains, domains), options)?];
        if several(&stream.classes) {
            read.push(self::read(&stream, CLASS, (&stream.classes, classes), options)?);
        }
        let codes = codes(&stream, domains, options)?;
        let (mut tables, mut figures) = (vec![table(&read)?], vec![figure(&read[0])]);
        if !codes.is_empty() {
            tables.push(length_table("domain_probe_length", "How short the domain can be written", &codes)?);
            figures.push(code_figure(&codes));
        }
        Ok(Finding { tables, figures })
    }
}

fn several(labels: &[u32]) -> bool {
    labels.iter().any(|label| *label != labels[0])
}

fn tasks<'s>(
    stream: &'s ResidualStream,
    (labels, classes): (&'s [u32], usize),
) -> impl Iterator<Item = (String, ProbeTask<'s>)> {
    stream.layers.iter().enumerate().map(move |(layer, features)| {
        let (documents, types) = (&stream.documents[..], &stream.ids[..]);
        (format!("after block {layer}"), ProbeTask { features, labels, classes, documents, types })
    })
}

/// Probes for one label after every block.
fn read(
    stream: &ResidualStream,
    label: &'static str,
    labels: (&[u32], usize),
    options: ProbeOptions,
) -> Result<Read, AnalysisError> {
    let one = |(place, task): (String, ProbeTask<'_>)| Ok((place, probe(task, options)?));
    Ok(Read { label, probes: tasks(stream, labels).map(one).collect::<Result<_, AnalysisError>>()? })
}

/// Codes of the domain after every block; none with fewer documents than a code needs.
fn codes(
    stream: &ResidualStream,
    domains: usize,
    options: ProbeOptions,
) -> Result<Vec<(String, DescriptionLength)>, AnalysisError> {
    let mut codes = Vec::new();
    for (place, task) in tasks(stream, (&stream.domains, domains)) {
        match description_length(task, options) {
            Ok(code) => codes.push((place, code)),
            // A probe needs three documents, a code five.
            Err(AnalysisError::TooFew { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(codes)
}

/// One row for each label and block.
fn table(read: &[Read]) -> Result<Table, AnalysisError> {
    let rows: Vec<(String, Probe)> = read
        .iter()
        .flat_map(|read| read.probes.iter().map(|(place, probe)| (format!("{} {place}", read.label), *probe)))
        .collect();
    let title = "What a linear probe reads of the domain and of the class of the token";
    let made = probe_table("domain_probe", title, &rows)?;
    let labels = read.iter().flat_map(|read| read.probes.iter().map(|_| read.label.to_owned())).collect();
    let mut columns = vec![
        layers_after(read.iter().flat_map(|read| 0..read.probes.len())),
        moescope_base::Column::key("label", "what is read", labels),
    ];
    columns.extend(made.columns().iter().cloned());
    Ok(Table::new("domain_probe", title, made.method(), columns)?)
}

fn figure(domain: &Read) -> Figure {
    Figure {
        id: "domain_probe".into(),
        title: finding(&domain.probes),
        caption: "Accuracy on documents not seen, with 95 % intervals over documents, by block; beside each curve the share of the most frequent class. The class of a \
                  token follows from its id, so that a memory of tokens reads it too: see the control in the table."
            .into(),
        table: "domain_probe".into(),
        kind: FigureKind::Lines {
            x: "layer".into(),
            y: "accuracy".into(),
            series: Some("label".into()),
            log2_x: false,
        },
    }
}

/// Where the domain is read best, if it is read beyond the most frequent one, and beyond a memory of tokens.
fn finding(probes: &[(String, Probe)]) -> String {
    let accuracy = |of: &&(String, Probe)| of.1.accuracy.estimate;
    let (place, best) =
        probes.iter().max_by(|a, b| accuracy(a).total_cmp(&accuracy(b))).expect("a model has blocks");
    let [right, majority, control] =
        [best.accuracy.estimate, best.majority, best.control].map(|share| 100.0 * share);
    let beside = format!(
        "right for {right:.0} % of the tokens, where the most frequent is right for {majority:.0} % and random labels of token types are for {control:.0} %"
    );
    match (best.accuracy.low > best.majority, best.selectivity.low > 0.0) {
        (true, true) => format!("The domain is read best {place}: {beside}"),
        (true, false) => format!(
            "The domain is read best {place}, though no better than random labels of token types: {beside}"
        ),
        (false, _) => format!(
            "The domain is not seen to be read beyond the most frequent one; the best probe, {place}, is {beside}"
        ),
    }
}

/// The bits that each block saves.
fn code_figure(codes: &[(String, DescriptionLength)]) -> Figure {
    Figure {
        id: "domain_probe_length".into(),
        title: code_finding(codes),
        caption: "Bits per token that a probe saves which learns while the labels are sent, with 95 % intervals over documents; 0 is a \
                  stream that tells nothing. A label that lies open saves more than one that takes many examples to learn."
            .into(),
        table: "domain_probe_length".into(),
        kind: FigureKind::Forest { label: "probe".into(), estimate: "saved".into(), reference: Some(0.0) },
    }
}

/// The block that saves most, if its interval is above 0.
fn code_finding(codes: &[(String, DescriptionLength)]) -> String {
    let saved = |code: &DescriptionLength| code.saved.estimate;
    let best = codes.iter().max_by(|a, b| saved(&a.1).total_cmp(&saved(&b.1))).expect("there are codes");
    let (place, code) = best;
    let (without, with) = (code.frequencies, code.bits.estimate);
    if code.saved.low > 0.0 {
        return format!(
            "The stream {place} shortens the domain from {without:.2} to {with:.2} bits per token"
        );
    }
    format!(
        "No stream is seen to shorten the domain: with the best, {place}, it takes {with:.2} bits per token, without {without:.2}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wording::found;

    fn probes(accuracy: [f64; 3], selectivity: [f64; 3]) -> Vec<(String, Probe)> {
        let of = |[estimate, low, high]: [f64; 3]| found(estimate, low, high);
        let probe = Probe {
            accuracy: of(accuracy),
            control: 0.3,
            selectivity: of(selectivity),
            majority: 0.25,
            log_likelihood: -1.0,
            log_likelihood_null: -1.3,
            tokens: 100,
        };
        vec![("after block 0".into(), probe)]
    }

    #[test]
    fn titles_say_whether_more_is_read_than_the_null_and_than_a_memory_of_tokens() {
        let title = |accuracy, selectivity| finding(&probes(accuracy, selectivity));
        assert!(
            title([0.8, 0.6, 0.9], [0.5, 0.3, 0.6])
                .starts_with("The domain is read best after block 0: right for 80 %")
        );
        assert!(title([0.8, 0.6, 0.9], [0.1, -0.3, 0.6]).contains("though no better than random labels"));
        assert!(title([0.3, 0.2, 0.5], [0.1, -0.3, 0.6]).starts_with("The domain is not seen to be read"));
    }

    #[test]
    fn a_code_that_is_longer_is_not_told_as_shorter() {
        let code = |saved: [f64; 3]| {
            let bits = found(2.0, 1.5, 2.5);
            let saved = found(saved[0], saved[1], saved[2]);
            vec![(
                "after block 1".to_owned(),
                DescriptionLength { bits, frequencies: 2.0 + saved.estimate, saved, control: 3.0, tokens: 9 },
            )]
        };
        assert!(code_finding(&code([1.0, 0.5, 1.5])).contains("shortens the domain from 3.00 to 2.00"));
        assert!(code_finding(&code([-0.5, -1.0, 0.1])).starts_with("No stream is seen to shorten"));
        assert!(code_finding(&code([0.5, -0.1, 1.1])).starts_with("No stream is seen to shorten"));
    }
}
