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
const CONTROL_DRAWS: usize = 2;
/// Most used paths at which coverage is read.
const COVERAGE: [usize; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/// Which paths the tokens take, and what paths tell about them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathMeasure {
    /// Tokens behind the numbers.
    pub tokens: usize,
    /// Different paths seen.
    pub distinct: usize,
    /// Entropy of the paths in bits, corrected for unseen ones.
    pub entropy: f64,
    /// The same if the layers chose independently.
    pub entropy_shuffled: f64,
    /// log2 of the number of possible paths.
    pub log2_possible: f64,
    /// Share of tokens on the most used paths.
    pub coverage: Vec<CoverageShare>,
    /// What the whole path tells about the domain.
    pub domain: Information,
    /// What the whole path tells about the token.
    pub token: Information,
    /// Adjusted share that the most telling single layer's set tells about the domain.
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

/// Loss when only some sets of experts may be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestrictionMeasure {
    /// Loss without restriction, in nats.
    pub unrestricted_loss: f64,
    /// One point for each number of sets.
    pub points: Vec<RestrictionPoint>,
}

/// One number of allowed sets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestrictionPoint {
    /// Sets allowed in each layer.
    pub sets: usize,
    /// Loss with the most used sets, in nats.
    pub loss: f64,
    /// Mean loss over draws of as many random sets, in nats.
    pub random_sets_loss: f64,
}

impl PathMeasure {
    /// Effective number of paths.
    pub fn effective(&self) -> f64 {
        self.entropy.exp2()
    }

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
        let token = path_information(trace, &Labels::token(tokens), Exchange::Tokens, permutations)?;
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

fn whole(report: &PathInformationReport) -> &PathInformation {
    report.units.iter().find(|unit| unit.unit == "path").expect("the report begins with whole paths")
}

fn most_telling_layer(report: &PathInformationReport) -> f64 {
    let sets = report.units.iter().filter(|unit| unit.unit.starts_with("set of layer"));
    sets.map(|unit| unit.test.adjusted_share()).fold(f64::NEG_INFINITY, f64::max)
}

impl RestrictionMeasure {
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

fn losses(report: &RestrictionReport, sets: usize, wanted: impl Fn(SetChoice) -> bool) -> Vec<f64> {
    report.points.iter().filter(|p| p.sets == sets && wanted(p.choice)).map(|p| p.loss).collect()
}
