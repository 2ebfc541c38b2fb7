//! Linear probes: what can be read from the residual stream, and how much of that is the probe's own doing.

use moescope_analysis::matrix::Features;
use moescope_analysis::probe::{Probe, ProbeOptions, ProbeTask, probe};
use moescope_base::{HookPoint, Request, Seed, Site, Subject};
use serde::{Deserialize, Serialize};

use crate::dataset::Pass;
use crate::{StudyConfig, StudyError};

/// Folds of the cross-validation; documents are never cut between them.
const FOLDS: usize = 3;
/// Strength of the squared penalty on the weights, the same for all families: a probe tuned for each would compare
/// the tuning.
const PENALTY: f64 = 1e-2;
/// Control tasks for each probe.
const CONTROLS: usize = 1;
/// The study's intervals are over seeds, so those over documents need no precision.
const REPLICATES: usize = 20;

/// What linear probes read from the residual stream after the last block, which every family has at the same width.
///
/// - **Does not show:** that the model uses what can be read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeMeasure {
    /// The domain of the text.
    pub domain: ProbeScore,
    /// The class of the next token (word, space, digit and the like): what the last block works towards.
    pub class: ProbeScore,
}

/// How well one probe reads, judged on documents that it has not seen.
///
/// - **Source:** control tasks and selectivity, Hewitt and Liang 2019.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeScore {
    /// Share of held-out tokens read rightly, 0 to 1.
    pub accuracy: f64,
    /// The same on a control task with a random label for each token type: what a probe reaches by knowing tokens by
    /// heart.
    pub control: f64,
    /// The same for always naming the most frequent label of the other folds. An accuracy near it shows nothing,
    /// whatever its size.
    pub majority: f64,
}

impl ProbeScore {
    /// Accuracy − control, from −1 to 1: what is read beyond the identity of the token.
    pub fn selectivity(&self) -> f64 {
        self.accuracy - self.control
    }
}

impl From<Probe> for ProbeScore {
    fn from(probe: Probe) -> ProbeScore {
        ProbeScore { accuracy: probe.accuracy.estimate, control: probe.control, majority: probe.majority }
    }
}

/// Tokens with their vectors and labels: `vectors[token, dimension]` flat, all other lists `[token]`.
#[derive(Default)]
struct Examples {
    vectors: Vec<f32>,
    domains: Vec<u32>,
    next_classes: Vec<u32>,
    documents: Vec<u32>,
    ids: Vec<u32>,
}

impl ProbeMeasure {
    /// Fits both probes on the same tokens, about `instruments.probe_tokens` of them; `seed` draws folds and control
    /// labels.
    pub(crate) fn of(
        subject: &mut dyn Subject,
        passes: &[Pass],
        config: &StudyConfig,
        seed: Seed,
    ) -> Result<ProbeMeasure, StudyError> {
        let width = subject.shape().d_model;
        let examples = Examples::gather(subject, passes, config)?;
        let features = Features::from_single(width, &examples.vectors)?;
        let read = |labels: &[u32], classes: usize, name: &str| -> Result<ProbeScore, StudyError> {
            let task = ProbeTask {
                features: &features,
                labels,
                classes,
                documents: &examples.documents,
                types: &examples.ids,
            };
            let seed = seed.child("probe").child(name);
            let options = ProbeOptions {
                folds: FOLDS,
                penalty: PENALTY,
                controls: CONTROLS,
                replicates: REPLICATES,
                seed,
            };
            Ok(probe(task, options)?.into())
        };
        let table = &passes[0].table;
        Ok(ProbeMeasure {
            domain: read(&examples.domains, table.domain_names.len(), "domain")?,
            class: read(&examples.next_classes, table.class_names.len(), "next class")?,
        })
    }
}

impl Examples {
    /// Evenly spread tokens that have a next token in their window. They are the same for every model, since the
    /// stride depends on text and configuration only.
    fn gather(
        subject: &mut dyn Subject,
        passes: &[Pass],
        config: &StudyConfig,
    ) -> Result<Examples, StudyError> {
        let point = HookPoint::block(Site::ResidPost, subject.shape().layers() - 1);
        let all: usize = passes.iter().map(|pass| pass.tokens.len()).sum();
        let stride = all.div_ceil(config.instruments.probe_tokens).max(1);
        let mut examples = Examples::default();
        for pass in passes {
            let seen = subject.run(&Request::recording(&pass.tokens, &[point]))?;
            let value = &seen.values[&point];
            let vectors = value.real().expect("a residual stream is real");
            let (table, positions) = (&pass.table, pass.tokens.positions());
            for token in (0..pass.tokens.len()).step_by(stride).filter(|t| t % positions + 1 < positions) {
                examples.vectors.extend(&vectors[token * value.columns()..(token + 1) * value.columns()]);
                examples.domains.push(u32::from(table.domains[token]));
                examples.next_classes.push(u32::from(table.classes[token + 1]));
                examples.documents.push(table.documents[token]);
                examples.ids.push(table.ids[token]);
            }
        }
        Ok(examples)
    }
}
