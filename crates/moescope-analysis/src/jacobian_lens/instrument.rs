use moescope_base::{Column, Figure, FigureKind, Table};

use super::{Given, JacobianOptions, METHOD, Transport, jacobian_lens};
use crate::AnalysisError;
use crate::instrument::{
    About, Finding, Group, Instrument, LEVEL, Material, Promise, Property, Reading, Rule,
};
use crate::statistics::Bootstrap;
use crate::tabulate::{bootstrap_columns, layers_after};
use crate::wording::counted;

/// The instrument `jacobian-lens`.
pub struct JacobianLens;

/// Sequences that are moved, at most; whole batches.
const SEQUENCES: usize = 64;
const LAYERS: usize = 4;
const DIRECTIONS: usize = 12;
const ROUNDS: usize = 3;
/// Enough for the smallest p-value to survive Holm's correction over all blocks.
const SHUFFLES: usize = 99;

const CARRIES: Reading = Reading {
    says: "the averaged Jacobian carries changes after block 0 better than the identity",
    table: "jacobian_lens",
    rows: &[("layer", "0")],
    value: "gain",
    rule: Rule::MoreThan(0.01),
};
const BY_EXPERT: Reading = Reading {
    says: "averages by expert carry changes after block 0 better",
    table: "jacobian_lens_by_expert",
    rows: &[("layer", "0")],
    value: "gain",
    rule: Rule::Significant,
};

const BY_PATH: Reading = Reading {
    says: "averages by path carry changes after block 0 better than those by expert",
    table: "jacobian_lens_by_path",
    rows: &[("layer", "0")],
    value: "gain",
    rule: Rule::Significant,
};

const PROMISES: &[Promise] = &[
    Promise::is_silent(Property::EarlyAnswer, CARRIES),
    Promise::finds(Property::LateAnswer, BY_EXPERT),
    Promise::is_silent(Property::EarlyAnswer, BY_EXPERT),
    Promise::is_silent(Property::AnswerByExpert, BY_PATH),
];

impl Instrument for JacobianLens {
    fn about(&self) -> About {
        About {
            name: "jacobian-lens",
            group: Group::Lenses,
            question: "Does one linear map carry changes of the stream after a block to the end, and do maps for each expert and each path carry them better?",
            null: "the change itself, as if no block came after; for maps by expert the experts shuffled between tokens, for maps by path the second expert shuffled between tokens that share the first",
            does_not_show: "the length of a change, changes outside the principal directions, nor what happens at other tokens",
            source: "averaged Jacobians, Hernandez et al. 2023 (arXiv 2308.09124), and linear short cuts, Din et al. 2023 (arXiv 2303.09435), by central differences",
            passes: "at most 79 for each of at most 4 blocks, of at most 64 sequences",
            routed: false,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let options = JacobianOptions {
            layers: LAYERS,
            directions: DIRECTIONS,
            rounds: ROUNDS,
            shuffles: SHUFFLES,
            resampling: material.resampling(METHOD),
            seed: material.seed.child(METHOD),
        };
        let samples = material.some_samples(METHOD, SEQUENCES)?;
        let found = jacobian_lens(material.subject, &samples, options)?;
        let mut tables = vec![table(&found)?];
        let mut figures = vec![Figure {
            id: "jacobian_lens".into(),
            title: finding(&found),
            caption: "Cosine of the true change of the final vector and the one that the averaged Jacobian tells, after each block, on held-out \
                      documents, with 95 % intervals over these; beside it the cosine with the change itself."
                .into(),
            table: "jacobian_lens".into(),
            kind: FigureKind::Lines { x: "layer".into(), y: "cosine".into(), series: None, log2_x: false },
        }];
        for maps in [EXPERTS, PATHS] {
            let given = |row: &Transport| Some((row.layer, (maps.of)(row)?));
            let given: Vec<(usize, Given)> = found.iter().filter_map(given).collect();
            if !given.is_empty() {
                tables.push(maps.table(&given)?);
                figures.push(maps.figure(&given));
            }
        }
        Ok(Finding { tables, figures })
    }
}

fn table(found: &[Transport]) -> Result<Table, AnalysisError> {
    let of = |pick: fn(&Transport) -> Bootstrap| found.iter().map(pick).collect::<Vec<Bootstrap>>();
    let real = |pick: fn(&Transport) -> f64| found.iter().map(pick).collect::<Vec<f64>>();
    let mut columns = vec![layers_after(found.iter().map(|row| row.layer))];
    let meaning = "of the change that the averaged Jacobian tells and the true one, routes held";
    columns.extend(bootstrap_columns("cosine", "cosine", meaning, &of(|row| row.cosine)));
    columns.push(Column::null("cosine", "cosine", "the change itself", real(|row| row.identity)));
    columns.extend(bootstrap_columns(
        "gain",
        "cosine",
        "cosine minus that of the change itself",
        &of(|row| row.gain),
    ));
    columns.push(Column::null(
        "gain",
        "cosine",
        "blocks that leave changes as they are",
        vec![0.0; found.len()],
    ));
    let meaning = "the same with routes free";
    columns.extend(bootstrap_columns("cosine_free", "cosine", meaning, &of(|row| row.cosine_free)));
    columns.push(Column::estimate(
        "flips",
        "share of changes",
        "that flip a route of their token",
        real(|row| row.flips),
    ));
    let meaning = "of the stream's variance in the directions";
    columns.push(Column::estimate("variance", "share", meaning, real(|row| row.variance)));
    let directions = found.iter().map(|row| row.directions as i64).collect();
    columns.push(Column::count("directions", "directions", "along which the stream was moved", directions));
    let method = "Central differences at single tokens along the principal directions of the stream, routes held, averaged over tokens of half of the \
                  documents; on the other half the part of a vector in these directions is exchanged for another token's.";
    Ok(Table::new("jacobian_lens", "How well one linear map carries changes to the end", method, columns)?)
}

fn finding(found: &[Transport]) -> String {
    let better = found.iter().filter(|row| row.gain.low > 0.0).count();
    let mean = |pick: fn(&Transport) -> f64| found.iter().map(pick).sum::<f64>() / found.len().max(1) as f64;
    format!(
        "One linear map carries changes to the end with a cosine of {:.2} on average, the change itself has {:.2}; the map is better after \
         {better} of {}",
        mean(|row| row.cosine.estimate),
        mean(|row| row.identity),
        counted(found.len(), "block", "blocks")
    )
}

/// How maps are told apart, in words.
struct Maps {
    of: fn(&Transport) -> Option<Given>,
    id: &'static str,
    title: &'static str,
    caption: &'static str,
    meaning: &'static str,
    null: &'static str,
    shuffled: &'static str,
    method: &'static str,
    says: &'static str,
}

const EXPERTS: Maps = Maps {
    of: |row| row.by_expert,
    id: "jacobian_lens_by_expert",
    title: "Whether a map for each expert carries changes better",
    caption: "Cosine with averages over the tokens of the same expert, minus that with experts shuffled between tokens, with 95 % intervals over \
              held-out documents.",
    meaning: "cosine with averages by expert, minus that with shuffled experts",
    null: "experts that derivatives do not differ by",
    shuffled: "so large a cosine with experts shuffled between tokens",
    method: "Averages over the tokens that have the same expert with the largest weight in the next routed layer; those of rare experts lean on the \
             average over all.",
    says: "Maps by expert carry changes better than maps by shuffled experts",
};

const PATHS: Maps = Maps {
    of: |row| row.by_path,
    id: "jacobian_lens_by_path",
    title: "Whether a map for each path carries changes better than one for each expert",
    caption: "Cosine with averages over the tokens of the same two experts, minus that with the second expert shuffled between tokens that share the \
              first, with 95 % intervals over held-out documents.",
    meaning: "cosine with averages by path, minus that with the second expert shuffled",
    null: "paths that tell no more than their first expert",
    shuffled: "so large a cosine with the second expert shuffled between tokens that share the first",
    method: "Averages over the tokens that have the same experts with the largest weight in the next two routed layers; those of rare paths lean on the \
             average of their first expert. Does not show what longer paths tell.",
    says: "Maps by path carry changes better than by their first expert and any second",
};

impl Maps {
    fn table(&self, found: &[(usize, Given)]) -> Result<Table, AnalysisError> {
        let gains: Vec<Bootstrap> = found.iter().map(|(_, of)| of.gain).collect();
        let mut columns = vec![layers_after(found.iter().map(|(layer, _)| *layer))];
        columns.extend(bootstrap_columns("gain", "cosine", self.meaning, &gains));
        columns.push(Column::null("gain", "cosine", self.null, vec![0.0; found.len()]));
        let p = found.iter().map(|(_, of)| of.p).collect();
        columns.push(Column::p_value("gain", self.shuffled, p));
        Ok(Table::new(self.id, self.title, self.method, columns)?)
    }

    fn figure(&self, found: &[(usize, Given)]) -> Figure {
        Figure {
            id: self.id.into(),
            title: self.finding(found),
            caption: self.caption.into(),
            table: self.id.into(),
            kind: FigureKind::Bars { x: "layer".into(), y: "gain".into(), series: None },
        }
    }

    fn finding(&self, found: &[(usize, Given)]) -> String {
        let better = crate::statistics::holm(&found.iter().map(|(_, of)| of.p).collect::<Vec<f64>>());
        // A shuffle moves single tokens, an interval documents: both must tell.
        let better =
            better.into_iter().zip(found).filter(|(p, (_, of))| *p <= LEVEL && of.gain.low > 0.0).count();
        let most = found.iter().map(|(_, of)| of.gain.estimate).fold(f64::NEG_INFINITY, f64::max);
        format!(
            "{} after {better} of {}, by a cosine of {most:.3} at most",
            self.says,
            counted(found.len(), "block", "blocks")
        )
    }
}
