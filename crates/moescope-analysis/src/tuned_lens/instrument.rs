use moescope_base::{Column, Figure, FigureKind, Table};

use super::{Conditioned, LayerLenses, METHOD, TunedLensOptions, TunedLenses, tuned_lens};
use crate::AnalysisError;
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::statistics::Bootstrap;
use crate::tabulate::{bootstrap_columns, layers_after};
use crate::wording::counted;

/// The instrument `tuned-lens`.
pub struct TunedLens;

/// Tokens that lenses are trained and tested on, at most.
const TOKENS: usize = 5_000;
/// Blocks that get a lens, at most.
const LAYERS: usize = 6;
const RANK: usize = 2;
const SHUFFLES: usize = 3;

const NEARER: Reading = Reading {
    says: "the tuned lens is nearer than the logit lens after block 0",
    table: "tuned_lens",
    rows: &[("layer", "0")],
    value: "gain",
    rule: Rule::MoreThan(0.01),
};
const TELLS: Reading = Reading {
    says: "the lens reads more than a constant after block 0",
    table: "tuned_lens",
    rows: &[("layer", "0")],
    value: "tuned",
    rule: Rule::Below(0.9),
};
const BY_EXPERT: Reading = Reading {
    says: "the expert tells what the vector of block 0 does not tell an affine lens",
    table: "tuned_lens_by_expert",
    rows: &[("layer", "0")],
    value: "gain",
    rule: Rule::MoreThan(0.01),
};

const BY_PATH: Reading = Reading {
    says: "the path to block 1 tells what its expert does not tell an affine lens",
    table: "tuned_lens_by_path",
    rows: &[("layer", "1")],
    value: "gain",
    rule: Rule::MoreThan(0.01),
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::LateAnswer, NEARER),
    Promise::finds(Property::LateAnswer, TELLS),
    Promise::is_silent(Property::EarlyAnswer, NEARER),
    Promise::finds(Property::ForkedAnswer, BY_EXPERT),
    Promise::is_silent(Property::RandomRoutes, BY_EXPERT),
    Promise::finds(Property::AnswerByPath, BY_PATH),
    Promise::is_silent(Property::AnswerByExpert, BY_PATH),
];

impl Instrument for TunedLens {
    fn about(&self) -> About {
        About {
            name: "tuned-lens",
            group: Group::Lenses,
            question: "How near is the final prediction after each block to an affine reader, and does the expert that was chosen, or the path so far, tell it more?",
            null: "one constant prediction; the logit lens; for the lenses by expert and by path the same lens on shuffled routes",
            does_not_show: "that the model uses what the lens reads: it may compute what later blocks would",
            source: "tuned lens, Belrose et al. 2023 (arXiv 2303.08112), with corrections of rank 2 by expert and by path",
            passes: "one for each batch of an excerpt; and for each of at most 6 blocks 1,160 products of 64 tokens with the unembedding, there and back",
            routed: false,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let options = TunedLensOptions {
            tokens: TOKENS,
            layers: LAYERS,
            rank: RANK,
            shuffles: SHUFFLES,
            resampling: material.resampling(METHOD),
            seed: material.seed.child(METHOD),
        };
        let samples = material.samples()?;
        let found = tuned_lens(material.subject, &samples, options)?;
        let mut tables = vec![table(&found)?, lines(&found)?];
        let mut figures = vec![Figure {
            id: "tuned_lens".into(),
            title: finding(&found),
            caption: "Divergence of the final prediction from that of each lens, after each block, on held-out documents, with 95 % intervals \
                      over these; beside it that of one constant prediction."
                .into(),
            table: "tuned_lens_curves".into(),
            kind: FigureKind::Lines {
                x: "layer".into(),
                y: "divergence".into(),
                series: Some("lens".into()),
                log2_x: false,
            },
        }];
        for by in BY {
            let of: Vec<(usize, Conditioned)> =
                found.layers.iter().filter_map(|layer| Some((layer.layer, (by.pick)(layer)?))).collect();
            if !of.is_empty() {
                tables.push(by.table(&of)?);
                figures.push(by.figure(&of));
            }
        }
        Ok(Finding { tables, figures })
    }
}

fn table(found: &TunedLenses) -> Result<Table, AnalysisError> {
    let of = |pick: fn(&LayerLenses) -> Bootstrap| found.layers.iter().map(pick).collect::<Vec<Bootstrap>>();
    let constant: Vec<f64> = found.layers.iter().map(|layer| layer.constant).collect();
    let nats = "nats per token";
    let mut columns = vec![layers_after(found.layers.iter().map(|layer| layer.layer))];
    columns.extend(bootstrap_columns("logit", nats, "divergence under the logit lens", &of(|l| l.logit)));
    columns.push(Column::null("logit", nats, "one constant prediction", constant.clone()));
    columns.extend(bootstrap_columns("tuned", nats, "divergence under the tuned lens", &of(|l| l.tuned)));
    columns.push(Column::null("tuned", nats, "one constant prediction", constant));
    columns.extend(bootstrap_columns("gain", nats, "logit minus tuned, on the same tokens", &of(|l| l.gain)));
    columns.push(Column::null("gain", nats, "lenses that are equally near", vec![0.0; found.layers.len()]));
    let count = |of: usize| vec![of as i64; found.layers.len()];
    columns.push(Column::count("trained", "tokens", "that lenses were trained on", count(found.trained)));
    columns.push(Column::count(
        "tested",
        "tokens",
        "of other documents, that they were tested on",
        count(found.tested),
    ));
    let method = "An affine map after each block, from the identity, trained on the divergence of the final prediction and stopped by documents set \
                  aside; all numbers are of documents that no lens has seen. Does not show that the model uses what the lens reads.";
    Ok(Table::new("tuned_lens", "What an affine lens reads after each block", method, columns)?)
}

/// The two lenses as curves.
fn lines(found: &TunedLenses) -> Result<Table, AnalysisError> {
    let rows: Vec<(usize, &str, Bootstrap, f64)> = found
        .layers
        .iter()
        .flat_map(|layer| {
            [("logit lens", layer.logit), ("tuned lens", layer.tuned)]
                .map(|(lens, value)| (layer.layer, lens, value, layer.constant))
        })
        .collect();
    let mut columns = vec![
        layers_after(rows.iter().map(|row| row.0)),
        Column::key("lens", "which lens", rows.iter().map(|row| row.1.to_owned()).collect()),
    ];
    let values: Vec<Bootstrap> = rows.iter().map(|row| row.2).collect();
    let meaning = "divergence of the final prediction from the lens'";
    columns.extend(bootstrap_columns("divergence", "nats per token", meaning, &values));
    let constant = rows.iter().map(|row| row.3).collect();
    columns.push(Column::null("divergence", "nats per token", "one constant prediction", constant));
    let method = "The columns of `tuned_lens`, one row for each lens.";
    Ok(Table::new("tuned_lens_curves", "Two lenses after each block", method, columns)?)
}

/// A lens that is told more than the vector.
struct By {
    /// Name of the table.
    id: &'static str,
    pick: fn(&LayerLenses) -> Option<Conditioned>,
    title: &'static str,
    /// What is told, as the subject of a sentence.
    told: &'static str,
    /// What it has to tell more than.
    more_than: &'static str,
    shuffled: &'static str,
    nothing: &'static str,
    method: &'static str,
}

const BY: [By; 2] = [
    By {
        id: "tuned_lens_by_expert",
        pick: |layer| layer.conditioned,
        title: "What the chosen expert tells an affine lens",
        told: "The chosen expert",
        more_than: "its vector",
        shuffled: "routes shuffled between tokens: the best shuffle",
        nothing: "an expert that tells an affine lens nothing",
        method: "To the tuned lens, held, each expert adds a vector and a map of rank 2, for the tokens in which it has the largest weight. \
                 Beside it the same lens with as many parameters on shuffled routes.",
    },
    By {
        id: "tuned_lens_by_path",
        pick: |layer| layer.by_path,
        title: "What the path so far tells an affine lens",
        told: "The path so far",
        more_than: "its vector and the chosen expert",
        shuffled: "the expert before shuffled between tokens of one expert: the best shuffle",
        nothing: "an expert before that tells nothing beyond the chosen one",
        method: "The path is the expert with the largest weight in the block and in the routed block before it; the 64 most frequent pairs have a vector \
                 and a map of rank 2 each, all others one together. Beside it the same lens where the expert before is exchanged between tokens \
                 of the same expert.",
    },
];

impl By {
    fn table(&self, found: &[(usize, Conditioned)]) -> Result<Table, AnalysisError> {
        let of = |pick: fn(&Conditioned) -> Bootstrap| {
            found.iter().map(|(_, of)| pick(of)).collect::<Vec<Bootstrap>>()
        };
        let nats = "nats per token";
        let mut columns = vec![layers_after(found.iter().map(|(layer, _)| *layer))];
        let meaning = "divergence under the tuned lens with corrections";
        columns.extend(bootstrap_columns("divergence", nats, meaning, &of(|c| c.divergence)));
        let shuffled = found.iter().map(|(_, of)| of.shuffled).collect();
        columns.push(Column::null("divergence", nats, self.shuffled, shuffled));
        let meaning = "shuffled minus true routes, on the same tokens";
        columns.extend(bootstrap_columns("gain", nats, meaning, &of(|c| c.gain)));
        columns.push(Column::null("gain", nats, self.nothing, vec![0.0; found.len()]));
        Ok(Table::new(self.id, self.title, self.method, columns)?)
    }

    fn figure(&self, found: &[(usize, Conditioned)]) -> Figure {
        let more = found.iter().filter(|(_, of)| of.gain.low > 0.0).count();
        let most = found.iter().map(|(_, of)| of.gain.estimate).fold(f64::NEG_INFINITY, f64::max);
        let blocks = counted(found.len(), "block", "blocks");
        let by = if more > 0 { format!(", by {most:.3} nats at most") } else { String::new() };
        Figure {
            id: self.id.into(),
            title: format!(
                "{} tells an affine lens more than {} after {more} of {blocks}{by}",
                self.told, self.more_than
            ),
            caption: format!(
                "Divergence that it saves an affine lens, against the same lens with {}, with 95 % intervals over held-out documents.",
                self.shuffled
            ),
            table: self.id.into(),
            kind: FigureKind::Bars { x: "layer".into(), y: "gain".into(), series: None },
        }
    }
}

fn finding(found: &TunedLenses) -> String {
    let nearer = found.layers.iter().filter(|layer| layer.gain.low > 0.0).count();
    let mean = |pick: fn(&LayerLenses) -> f64| {
        found.layers.iter().map(pick).sum::<f64>() / found.layers.len().max(1) as f64
    };
    format!(
        "The tuned lens is nearer to the final prediction than the logit lens after {nearer} of {}: {:.2} nats against {:.2} on average, \
         one constant prediction {:.2}",
        counted(found.layers.len(), "block", "blocks"),
        mean(|layer| layer.tuned.estimate),
        mean(|layer| layer.logit.estimate),
        mean(|layer| layer.constant)
    )
}
