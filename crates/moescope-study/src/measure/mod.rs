//! What is measured on single models, one instrument or group of instruments per file.
//!
//! An instrument of the analysis crate gives more than a study keeps: here each result is cut down to the plain
//! numbers that the questions use, as JSON holds them. Intervals within a model are dropped on the way, since the
//! intervals of a study are over seeds.

mod causal;
mod information;
mod language;
mod lens;
mod paths;
mod probes;
mod routing;
mod spectrum;
mod task;

use std::collections::BTreeMap;

use moescope_analysis::Sample;
use moescope_analysis::routing::Permutations;
use moescope_base::{Seed, Subject};
use moescope_corpus::tasks::Task;
use moescope_model::{Model, ModelSubject};
use moescope_trace::RoutingTrace;
use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Pass};
use crate::roster::{Rate, Run, Workload};
use crate::{Family, StudyConfig, StudyError};

pub use causal::AttributionMeasure;
pub use information::Information;
pub use language::LanguageMeasure;
pub use lens::LensMeasure;
pub use paths::{CoverageShare, PathMeasure, RestrictionMeasure, RestrictionPoint};
pub use probes::{ProbeMeasure, ProbeScore};
pub use routing::{LayerMeasure, RoutingMeasure};
pub use task::TaskMeasure;

/// Everything measured on one run; what does not apply to it is absent.
///
/// This is the content of `measures.json`. Task runs have sizes and `task`; untrained ones and those at other
/// learning rates sizes and `language`;
/// trained language runs more, by family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// All parameters, every expert included.
    pub parameters_total: u64,
    /// Parameters that one token passes through, by the rule of the routing; router included.
    pub parameters_active: u64,
    /// Forward FLOPs for one token by exact counts, router included. Not a time: layers of equal FLOPs differ in
    /// speed.
    pub flops_per_token: u64,
    /// Largest learning-rate factor of any matrix: that of the output matrices of routed and top-k layers, 1 for dense.
    pub rate_factor: f64,
    /// Step at which training blew up, from 0; then nothing else is measured. Only runs at another learning rate than the
    /// study's may: a claim needs every seed of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged: Option<u64>,
    /// Loss on text.
    pub language: Option<LanguageMeasure>,
    /// Result on a synthetic task.
    pub task: Option<TaskMeasure>,
    /// Linear probes; on the families of question 1, like the next two.
    pub probes: Option<ProbeMeasure>,
    /// Logit lens.
    pub lens: Option<LensMeasure>,
    /// Attribution against ablation.
    pub attribution: Option<AttributionMeasure>,
    /// Routes and what they carry; on MoE with a learned router, like `paths`.
    pub routing: Option<RoutingMeasure>,
    /// Paths and what they carry.
    pub paths: Option<PathMeasure>,
    /// Loss when only some expert sets may be used; on the primary MoE only.
    pub restriction: Option<RestrictionMeasure>,
}

impl Measures {
    /// Measures a run with every instrument that applies to it.
    ///
    /// The model is measured as it is; no instrument changes a weight.
    ///
    /// # Errors
    /// If an instrument refuses its input, such as text with too few documents.
    pub(crate) fn of(
        run: &Run,
        model: Model,
        config: &StudyConfig,
        dataset: &Dataset,
        tasks: &BTreeMap<Workload, Task>,
    ) -> Result<Measures, StudyError> {
        let mut measures = Measures::sizes(&model, None);
        if let Some(task) = tasks.get(&run.workload) {
            measures.task = Some(TaskMeasure::of(&model, task, run.seed)?);
            return Ok(measures);
        }
        let passes = dataset.validation_passes()?;
        measures.language = Some(LanguageMeasure::of(&model, &passes, dataset.facts().domain_names.len())?);
        if !run.untrained && run.rate == Rate::Base {
            let mut subject = ModelSubject::new(model);
            measures.look_inside(run, &mut subject, config, dataset, &passes)?;
        }
        Ok(measures)
    }

    /// What is left of a run that blew up at a step: the sizes of its model, here as it was drawn.
    pub(crate) fn blown_up(model: &Model, step: u64) -> Measures {
        Measures::sizes(model, Some(step))
    }

    /// The sizes, with everything else still absent.
    fn sizes(model: &Model, diverged: Option<u64>) -> Measures {
        let counts = model.description().counts();
        Measures {
            parameters_total: counts.parameters_total,
            parameters_active: counts.parameters_active,
            flops_per_token: counts.flops_per_token,
            rate_factor: model.parameters().iter().map(|p| f64::from(p.rate_factor)).fold(0.0, f64::max),
            diverged,
            language: None,
            task: None,
            probes: None,
            lens: None,
            attribution: None,
            routing: None,
            paths: None,
            restriction: None,
        }
    }

    /// Instruments that need hooks or routes. What runs on which family is decided here and nowhere else.
    fn look_inside(
        &mut self,
        run: &Run,
        subject: &mut dyn Subject,
        config: &StudyConfig,
        dataset: &Dataset,
        passes: &[Pass],
    ) -> Result<(), StudyError> {
        // Instruments draw from a seed of their own: what they draw must not depend on how the model was drawn.
        let seed = Seed(run.seed).child("instruments");
        if technique_subjects(config).contains(&run.family) {
            self.probes = Some(ProbeMeasure::of(subject, passes, config, seed)?);
            self.lens = Some(LensMeasure::of(subject, passes, seed)?);
            self.attribution = Some(AttributionMeasure::of(subject, passes, config, seed)?);
        }
        if let Family::Moe { granularity } = run.family {
            let permutations = Permutations::new(config.instruments.permutations, seed.child("permutations"));
            let trace = record(subject, passes)?;
            let spectra = spectrum::spectra(subject, passes, seed)?;
            self.routing = Some(RoutingMeasure::of(&trace, &spectra, permutations)?);
            self.paths = Some(PathMeasure::of(&trace, permutations)?);
            if granularity == config.model.primary_granularity {
                let training = record(subject, &dataset.training_passes()?)?;
                let sets = &config.instruments.restriction;
                self.restriction =
                    Some(RestrictionMeasure::of(subject, &training, passes, sets, permutations)?);
            }
        }
        Ok(())
    }

    /// The result in a few words, for people who watch the progress.
    pub(crate) fn summary(&self) -> String {
        match (&self.language, &self.task) {
            (Some(language), _) => format!("validation loss {:.3} nats", language.loss),
            (_, Some(task)) => format!("{:.1} % of answers right", 100.0 * task.accuracy),
            _ => self.diverged.map_or("measured".into(), |step| format!("blew up at step {step}")),
        }
    }
}

/// Families on which the techniques of question 1 are tried: dense of the active and of the total width, coarse and
/// granular MoE. Transfer means that a technique does on the latter what it does on the former.
pub(crate) fn technique_subjects(config: &StudyConfig) -> [Family; 4] {
    [
        Family::Dense { times: 1 },
        Family::Dense { times: config.model.expansion },
        Family::Moe { granularity: 1 },
        Family::Moe { granularity: config.model.primary_granularity },
    ]
}

/// Routes of all tokens of the passes, in the order of the passes.
fn record(subject: &mut dyn Subject, passes: &[Pass]) -> Result<RoutingTrace, StudyError> {
    let batches = passes.iter().map(|pass| (pass.tokens.clone(), pass.table.clone()));
    Ok(moescope_trace::record_routing(subject, batches)?)
}

/// The passes as the causal instruments take them: tokens with their documents.
fn samples(passes: &[Pass]) -> Result<Vec<Sample>, StudyError> {
    let sample = |pass: &Pass| Sample::new(pass.tokens.clone(), pass.table.documents.clone());
    Ok(passes.iter().map(sample).collect::<Result<_, _>>()?)
}

/// The value unless it is not a number, which JSON cannot hold. An absent number stays absent in every table; it is
/// never read as 0.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
