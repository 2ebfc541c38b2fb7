//! Paths through a whole model: how many are used, what they tell, and what is lost without most of them.
//!
//! A path is the sequence of expert *sets* of a token, one set for each routed layer; which of the chosen experts
//! scored higher is left out.

use moescope_analysis::paths::{
    Budget, EvaluationBatch, PathInformation, PathInformationReport, PathKind, RestrictionReport, SetChoice,
    coverage, effective_number, path_information, restriction,
};
use moescope_analysis::routing::Permutations;
use moescope_analysis::specialisation::{Exchange, Labels};
use moescope_base::Subject;
use moescope_trace::RoutingTrace;
use serde::{Deserialize, Serialize};

use super::Information;
use crate::StudyError;
use crate::dataset::Pass;
use crate::results::mean;

/// Random draws of sets that stand beside the most used ones.
/// Few, since the interval of the study is over seeds.
const CONTROL_DRAWS: usize = 2;
/// Most used paths at which coverage is read.
const COVERAGE: [usize; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/// Which paths the tokens take, and what paths tell about them.
///
/// - **Does not show:** that many paths are *needed*; see [`RestrictionMeasure`]. All counts depend on the number of
///   tokens, so models compare only on the same text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathMeasure {
    /// Tokens behind the numbers: all of the validation windows.
    pub tokens: usize,
    /// Different paths seen, at most `tokens`. A lower bound of those in use.
    pub distinct: usize,
    /// Entropy of the paths in bits, corrected for unseen ones (Chao and Shen 2003). With nearly as many paths as
    /// tokens even the corrected number is uncertain, and too low rather than too high.
    pub entropy: f64,
    /// Mean of the same in bits if the layers chose independently: the choices of each layer shuffled over tokens.
    /// What `entropy` lacks to it is how far one layer's choice fixes the next.
    pub entropy_shuffled: f64,
    /// log2 of the number of possible paths, in bits: layers × log2 of the sets of one layer. The ceiling of
    /// `entropy`, out of reach for any number of tokens.
    pub log2_possible: f64,
    /// Share of tokens on the most used paths, ascending in their number.
    pub coverage: Vec<CoverageShare>,
    /// What the whole path tells about the domain. The null exchanges whole documents, since tokens of one document
    /// share their domain.
    pub domain: Information,
    /// What the whole path tells about the token's id. The null moves paths along documents.
    pub token: Information,
    /// Adjusted share that the most telling single layer's set tells about the domain: what a path has to exceed to
    /// be more than one of its parts.
    pub single_domain: f64,
    /// Adjusted share that the most telling single layer's set tells about the token.
    pub single_token: f64,
}

/// One point of the coverage curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CoverageShare {
    /// Most used paths.
    pub paths: usize,
    /// Share of tokens on them.
    pub share: f64,
}

/// Loss when only some sets of experts may be used, at fixed weights.
///
/// The most used sets of each layer are found on training text and judged on validation text. The control allows as
/// many sets drawn at random among the used ones.
///
/// - **Does not show:** what a model *trained* with few paths would reach; it could adapt.
/// - **Source:** path caps of PathMoE (arXiv 2603.18297), here with a control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestrictionMeasure {
    /// Loss without restriction, in nats per token, over validation tokens that have a loss.
    pub unrestricted_loss: f64,
    /// One point for each number of sets, in the order of `instruments.restriction`.
    pub points: Vec<RestrictionPoint>,
}

/// One number of allowed sets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestrictionPoint {
    /// Sets allowed in each routed layer; not fewer paths than that, since layers combine freely.
    pub sets: usize,
    /// Loss with the most used sets, in nats per token.
    pub loss: f64,
    /// Mean loss over draws of as many random sets, in nats.
    pub random_sets_loss: f64,
}

impl PathMeasure {
    /// Effective number of paths: as many equally frequent ones would have the same entropy (Hill number of order 1),
    /// from 1.
    pub fn effective(&self) -> f64 {
        self.entropy.exp2()
    }

    /// Counts paths and tests what they tell; `permutations` is shared by all nulls.
    pub(crate) fn of(trace: &RoutingTrace, permutations: Permutations) -> Result<PathMeasure, StudyError> {
        let number = effective_number(trace, PathKind::Sets, permutations)?;
        let covered = coverage(trace, PathKind::Sets, &COVERAGE)?;
        let tokens = trace.tokens();
        let domain = path_information(
            trace,
            &Labels::domain(tokens),
            Exchange::Documents(&tokens.documents),
            permutations,
        )?;
        let along = Exchange::Along(&tokens.documents);
        let token = path_information(trace, &Labels::token(tokens), along, permutations)?;
        Ok(PathMeasure {
            tokens: number.paths.used.tokens,
            distinct: number.paths.used.distinct,
            entropy: number.paths.used.chao_shen,
            entropy_shuffled: number.independence.null_mean,
            log2_possible: number.paths.possible_log2,
            coverage: covered
                .points
                .iter()
                .filter(|point| point.layer.is_none())
                .map(|point| CoverageShare { paths: point.most_used, share: point.share })
                .collect(),
            domain: Information::from(&whole(&domain).test),
            token: Information::from(&whole(&token).test),
            single_domain: most_telling_layer(&domain),
            single_token: most_telling_layer(&token),
        })
    }
}

/// The unit of the report that is the whole path.
fn whole(report: &PathInformationReport) -> &PathInformation {
    report.units.iter().find(|unit| unit.unit == "path").expect("the report begins with whole paths")
}

/// Largest adjusted share over the sets of single layers. A maximum over layers is biased upwards, which makes it a
/// hard comparison for the whole path, not an easy one.
fn most_telling_layer(report: &PathInformationReport) -> f64 {
    let sets = report.units.iter().filter(|unit| unit.unit.starts_with("set of layer"));
    sets.map(|unit| unit.test.adjusted_share()).fold(f64::NEG_INFINITY, f64::max)
}

impl RestrictionMeasure {
    /// Runs the model under each number of sets, `sets`, and its controls.
    pub(crate) fn of(
        subject: &mut dyn Subject,
        training: &RoutingTrace,
        validation: &[Pass],
        sets: &[usize],
        permutations: Permutations,
    ) -> Result<RestrictionMeasure, StudyError> {
        let evaluation: Vec<EvaluationBatch> = validation
            .iter()
            .map(|pass| EvaluationBatch {
                tokens: pass.tokens.clone(),
                documents: pass.table.documents.clone(),
            })
            .collect();
        let controls = Permutations::new(CONTROL_DRAWS, permutations.child("restriction").seed);
        let report = restriction(subject, training, &evaluation, &Budget { sets: sets.to_vec(), controls })?;
        let points = sets.iter().map(|sets| RestrictionPoint {
            sets: *sets,
            loss: mean(&losses(&report, *sets, |choice| choice == SetChoice::MostUsed)),
            random_sets_loss: mean(&losses(&report, *sets, |choice| choice != SetChoice::MostUsed)),
        });
        Ok(RestrictionMeasure { unrestricted_loss: report.free_loss, points: points.collect() })
    }
}

/// Losses of the draws of one number of sets, in nats per token.
fn losses(report: &RestrictionReport, sets: usize, wanted: impl Fn(SetChoice) -> bool) -> Vec<f64> {
    report.points.iter().filter(|p| p.sets == sets && wanted(p.choice)).map(|p| p.loss).collect()
}
