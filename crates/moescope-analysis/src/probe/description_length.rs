//! How short the labels can be written for one who has the representation.
//!
//! Accuracy alone does not tell a label that lies open from one that a probe works out with effort. The online code does: labels are sent
//! in blocks, each coded by a probe that was fitted on the blocks before. A label that lies open is cheap from the second block on; one that
//! takes many examples to learn is dear for long.

use std::collections::BTreeSet;

use moescope_base::{Column, Seed, Table};
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::logistic::{Classifier, Penalty, class_frequencies};
use super::{ProbeOptions, ProbeTask, control_labels, refuse_bad_input};
use crate::AnalysisError;
use crate::statistics::{Bootstrap, BootstrapMethod, Resampling, cluster_bootstrap};
use crate::tabulate::{bootstrap_columns, labels};

/// Blocks that are sent, each about as long as all before it together.
const BLOCKS: usize = 5;

/// Length of an online code of the labels.
///
/// - **Unit and range:** bits for each token, 0 or more. The first block is sent at `log2(classes)` bits a token.
/// - **Null:** `frequencies`: the same code by the class frequencies of the blocks before, which know nothing of the representation, or the even code where that is
///   shorter: frequencies of few documents may say less than nothing of the next.
/// - **Control:** labels drawn for each token type: what a memory of types can write.
/// - **Code:** probabilities are mixed with even ones, which weigh as much as one document for each class.
/// - **Does not show:** that the model uses what the code reads; nor variation over the order of documents, which is drawn once.
/// - **Source:** online code of Voita and Titov 2020, "Information-Theoretic Probing with Minimum Description Length", over documents.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DescriptionLength {
    /// With the representation, interval over documents.
    pub bits: Bootstrap,
    /// By class frequencies alone, or evenly if that is shorter.
    pub frequencies: f64,
    /// `frequencies − bits`, interval over documents: what the representation saves. 0 where it tells nothing; less where the probe
    /// learns what does not hold on other documents.
    pub saved: Bootstrap,
    /// Bits of the control labels with the representation.
    pub control: f64,
    /// Tokens that were sent.
    pub tokens: usize,
}

/// Sends the labels of whole documents in a random order, block after block.
///
/// Of `options` the penalty, the replicates and the seed count. Costs four fits of a probe for the labels and four for one control.
///
/// # Errors
/// As [`probe`](super::probe); also with fewer documents than blocks.
pub fn description_length(
    task: ProbeTask<'_>,
    options: ProbeOptions,
) -> Result<DescriptionLength, AnalysisError> {
    let options = ProbeOptions { folds: options.folds.max(BLOCKS), controls: 1, ..options };
    refuse_bad_input(&task, &options)?;
    let blocks = blocks_of_documents(task.documents, options.seed.child("blocks"));
    let control = control_labels(&task, options.seed.child("control of the code"));
    let penalty = Penalty { classes: task.classes, ridge: options.penalty };
    let jobs: Vec<(bool, usize)> =
        [true, false].into_iter().flat_map(|own| (0..blocks.len()).map(move |block| (own, block))).collect();
    let sent: Vec<Vec<[f64; 2]>> = jobs
        .par_iter()
        .map(|&(own, block)| send(&task, if own { task.labels } else { &control }, &blocks, block, penalty))
        .collect();
    let tokens = task.labels.len();
    let (mut bits, mut frequencies, mut control) = (vec![0.0; tokens], vec![0.0; tokens], 0.0);
    for (&(own, block), costs) in jobs.iter().zip(&sent) {
        for (&token, [with, without]) in blocks[block].iter().zip(costs) {
            match own {
                true => (bits[token], frequencies[token]) = (*with, *without),
                false => control += with / tokens as f64,
            }
        }
    }
    let even = (task.classes as f64).log2();
    if frequencies.iter().sum::<f64>() > even * tokens as f64 {
        frequencies.fill(even);
    }
    let resampling = Resampling {
        replicates: options.replicates,
        level: 0.95,
        method: BootstrapMethod::Percentile,
        seed: options.seed.child("bootstrap of the code"),
    };
    let over = |value: &(dyn Fn(usize) -> f64 + Sync)| {
        let mean = |rows: &[usize]| rows.iter().map(|row| value(*row)).sum::<f64>() / rows.len() as f64;
        cluster_bootstrap(task.documents, mean, resampling)
    };
    Ok(DescriptionLength {
        bits: over(&|token| bits[token])?,
        frequencies: frequencies.iter().sum::<f64>() / tokens as f64,
        saved: over(&|token| frequencies[token] - bits[token])?,
        control,
        tokens,
    })
}

/// Tokens of each block, ascending: whole documents in a random order, so that the blocks end near 1/16, 1/8, 1/4, 1/2 and all of them.
fn blocks_of_documents(documents: &[u32], seed: Seed) -> Vec<Vec<usize>> {
    let mut order = documents.to_vec();
    order.sort_unstable();
    order.dedup();
    order.shuffle(&mut seed.rng());
    let count = order.len();
    // Every block has a document, however few there are.
    let end = |block: usize| (count >> (BLOCKS - 1 - block)).max(block + 1);
    let mut place: Vec<(u32, usize)> = Vec::with_capacity(count);
    for (turn, document) in order.into_iter().enumerate() {
        place.push((document, (0..BLOCKS).find(|block| turn < end(*block)).unwrap_or(BLOCKS - 1)));
    }
    place.sort_unstable();
    let mut blocks = vec![Vec::new(); BLOCKS];
    for (token, document) in documents.iter().enumerate() {
        let at =
            place.binary_search_by_key(document, |(known, _)| *known).expect("every document has a place");
        blocks[place[at].1].push(token);
    }
    blocks
}

/// How many documents some tokens are of.
fn documents_of(task: &ProbeTask<'_>, tokens: &[usize]) -> usize {
    tokens.iter().map(|token| task.documents[*token]).collect::<BTreeSet<u32>>().len()
}

/// Bits of each token of a block, with the representation and by class frequencies.
///
/// What few documents say is mixed with the even code as if each class had been seen in one document more: a domain of which none was among the first three would
/// cost what no later block could save.
fn send(
    task: &ProbeTask<'_>,
    labels: &[u32],
    blocks: &[Vec<usize>],
    block: usize,
    penalty: Penalty,
) -> Vec<[f64; 2]> {
    let known: Vec<usize> = blocks[..block].concat();
    if known.is_empty() {
        return vec![[(task.classes as f64).log2(); 2]; blocks[block].len()];
    }
    let frequencies = class_frequencies(labels, &known, penalty.classes);
    let probe = Classifier::fit(task.features, labels, &known, penalty);
    let said = probe.log_probabilities(task.features, &blocks[block]);
    let (documents, classes) = (documents_of(task, &known) as f64, penalty.classes as f64);
    let bits = |probability: f64| -((documents * probability + 1.0) / (documents + classes)).log2();
    let cost = |(token, said): (&usize, Vec<f64>)| {
        let label = labels[*token] as usize;
        [bits(said[label].exp()), bits(frequencies[label])]
    };
    blocks[block].iter().zip(said).map(cost).collect()
}

/// One row for each code.
///
/// # Errors
/// If the columns make no table.
pub fn length_table(
    name: &str,
    title: &str,
    codes: &[(String, DescriptionLength)],
) -> Result<Table, AnalysisError> {
    let of = |pick: fn(&DescriptionLength) -> f64| codes.iter().map(|(_, c)| pick(c)).collect::<Vec<f64>>();
    let [bits, saved] = [|c: &DescriptionLength| c.bits, |c: &DescriptionLength| c.saved]
        .map(|pick| codes.iter().map(|(_, code)| pick(code)).collect::<Vec<Bootstrap>>());
    let unit = "bits per token";
    let mut columns = vec![Column::key("probe", "what is read from where", labels(codes))];
    columns.extend(bootstrap_columns("bits", unit, "labels written with the representation", &bits));
    columns.push(Column::null(
        "bits",
        unit,
        "class frequencies alone, or the even code",
        of(|code| code.frequencies),
    ));
    columns.extend(bootstrap_columns("saved", unit, "what the representation saves", &saved));
    columns.push(Column::null("saved", unit, "a representation that tells nothing", of(|_| 0.0)));
    columns.push(Column::estimate("control", unit, "a random label per token type", of(|code| code.control)));
    let method = "Online code: whole documents in a random order, in five blocks that double; each is coded by the probe fitted on those before, \
                  the first one evenly, and all mixed with the even code, which weighs as much as one document for each class.";
    Ok(Table::new(name, title, method, columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{Features, normal};
    use rand::RngExt;

    const OPTIONS: ProbeOptions =
        ProbeOptions { folds: 3, penalty: 1e-2, controls: 1, replicates: 200, seed: Seed(3) };

    struct Planted {
        features: Features,
        labels: Vec<u32>,
        documents: Vec<u32>,
        types: Vec<u32>,
    }

    impl Planted {
        /// Documents of ten tokens with a class each, which moves one of three coordinates by `signal`.
        fn new(documents: u32, signal: f64, seed: u64) -> Planted {
            let mut rng = Seed(seed).rng();
            let of: Vec<u32> = (0..documents).map(|_| rng.random_range(0..2)).collect();
            let documents: Vec<u32> = (0..10 * documents).map(|token| token / 10).collect();
            let labels: Vec<u32> = documents.iter().map(|document| of[*document as usize]).collect();
            let mut values = Vec::new();
            for label in &labels {
                values.push(signal * f64::from(*label) + normal(&mut rng));
                values.extend([normal(&mut rng), normal(&mut rng)]);
            }
            let types = labels.iter().map(|_| rng.random_range(0..6)).collect();
            Planted { features: Features::new(3, &values).unwrap(), labels, documents, types }
        }

        fn task(&self) -> ProbeTask<'_> {
            let Planted { features, labels, documents, types } = self;
            ProbeTask { features, labels, classes: 2, documents, types }
        }
    }

    #[test]
    fn blocks_double_and_hold_whole_documents() {
        let documents: Vec<u32> = (0..96).map(|token| token / 3).collect(); // 32 documents
        let blocks = blocks_of_documents(&documents, Seed(1));
        assert_eq!(blocks.iter().map(Vec::len).collect::<Vec<_>>(), [6, 6, 12, 24, 48]);
        let of = |block: usize| blocks[block].iter().map(|token| documents[*token]).collect::<Vec<u32>>();
        assert!((0..4).all(|block| of(block).iter().all(|document| !of(4).contains(document))));
        let few = blocks_of_documents(&[0, 1, 2, 3, 4, 5], Seed(1));
        assert_eq!(few.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1, 1, 2]);
    }

    /// Features that do not vary tell nothing: every block costs what smoothed frequencies say.
    #[test]
    fn a_code_by_hand() {
        let documents = vec![0, 1, 2, 3, 4];
        let labels = vec![1, 1, 1, 1, 1];
        let features = Features::new(1, &[7.0; 5]).unwrap();
        let task = ProbeTask {
            features: &features,
            labels: &labels,
            classes: 2,
            documents: &documents,
            types: &[0; 5],
        };
        let found = description_length(task, OPTIONS).unwrap();
        // 1 bit; then frequencies of 2/3, 3/4, 4/5 and 5/6, of one to four documents, with half of two documents more.
        let mixed = [5.0 / 9.0, 5.0 / 8.0, 17.0 / 25.0, 13.0 / 18.0_f64];
        let wanted = (1.0 - mixed.iter().map(|share| share.log2()).sum::<f64>()) / 5.0;
        assert!((found.frequencies - wanted).abs() < 1e-12, "{}", found.frequencies);
        assert_eq!(found.tokens, 5);
    }

    #[test]
    fn a_planted_label_is_short_and_noise_saves_nothing() {
        let planted = description_length(Planted::new(64, 6.0, 1).task(), OPTIONS).unwrap();
        assert!(planted.saved.low > 0.4 && planted.bits.high < 0.5, "{planted:?}");
        assert!(planted.control > planted.bits.estimate + 0.3, "{planted:?}");
        let noise = description_length(Planted::new(64, 0.0, 2).task(), OPTIONS).unwrap();
        assert!(noise.saved.high < 0.05, "{noise:?}");
        let table = length_table("t", "T", &[("a".into(), planted)]).unwrap();
        assert_eq!(table.column("saved_null").unwrap().data.number(0), Some(0.0));
    }

    #[test]
    fn noise_seldom_looks_as_if_it_saved() {
        let options = ProbeOptions { replicates: 60, ..OPTIONS };
        let alarms = (0..200).filter(|seed| {
            description_length(Planted::new(16, 0.0, 100 + seed).task(), options).unwrap().saved.low > 0.0
        });
        // 0.025 of 200 is 5; above 11 in less than one of a hundred.
        assert!(alarms.count() <= 11);
    }

    #[test]
    fn units_of_features_and_names_of_documents_are_immaterial() {
        let base = Planted::new(20, 2.0, 4);
        let plain = description_length(base.task(), OPTIONS).unwrap();
        let scaled = base.features.rotate(&(nalgebra::DMatrix::identity(3, 3) * 40.0)).unwrap();
        let scaled = description_length(ProbeTask { features: &scaled, ..base.task() }, OPTIONS).unwrap();
        assert!((scaled.bits.estimate - plain.bits.estimate).abs() < 1e-4);
        let renamed: Vec<u32> = base.documents.iter().map(|document| 7 * document + 3).collect();
        let renamed = description_length(ProbeTask { documents: &renamed, ..base.task() }, OPTIONS).unwrap();
        assert_eq!(renamed, plain);
    }

    #[test]
    fn fewer_documents_than_blocks_are_refused() {
        let message = description_length(Planted::new(4, 0.0, 1).task(), OPTIONS).unwrap_err().to_string();
        assert!(message.contains("documents"), "{message}");
    }
}
