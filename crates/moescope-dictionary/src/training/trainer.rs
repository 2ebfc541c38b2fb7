//! The state of a training between its steps.

use moescope_engine::optimizer::{AdamW, global_norm};
use moescope_engine::{SparseRows, Tensor};
use rand_chacha::ChaCha8Rng;

use super::parameter::Parameter;
use super::resample::{SHARE, badly_explained, direction, squares};
use super::settings::{Kind, Settings};
use super::step::{self, Pass, Slopes, Weights};
use super::{StepReport, directions, schedule};
use crate::dictionary::transposed;
use crate::draws;
use crate::{DictionaryError, Parts, Rule};

/// Norm to which gradients are clipped.
const CLIP: f64 = 1.0;
/// First thresholds, and the width of the window around them, both as shares of the size that an active feature has when `k` of
/// them make up a row.
const FIRST_THRESHOLD: f32 = 0.05;
const BANDWIDTH: f32 = 0.5;
/// How much of the last batch goes into the running threshold of a batch.
const RUNNING: f64 = 0.01;
/// Shares of the steps after which dead features are set anew.
const RESAMPLED_AT: [f64; 2] = [0.25, 0.5];

/// Weights, moments and counts.
pub(crate) struct Trainer {
    settings: Settings,
    transcodes: bool,
    encoder: Parameter,
    encoder_bias: Parameter,
    /// What each feature writes, at length 1: `[feature, target]`.
    decoder: Parameter,
    bias: Parameter,
    thresholds: Parameter,
    /// Size of an active feature when `k` of them make up a row.
    size: f32,
    /// Rows since each feature was last active.
    silent: Vec<u64>,
    done: u64,
    rows: u64,
    /// Running mean of the least that was kept of a batch.
    least: Option<f64>,
    resampled: u64,
    draws: ChaCha8Rng,
}

impl Trainer {
    pub(crate) fn new(
        settings: &Settings,
        input: usize,
        target: usize,
        transcodes: bool,
    ) -> Result<Trainer, DictionaryError> {
        let features = settings.features;
        let written = draws::directions(features, target, settings.seed.child("decoder"));
        // An autoencoder begins by reading what it writes; a transcoder cannot.
        let encoder = match transcodes {
            false => written.clone(),
            true => draws::directions(features, input, settings.seed.child("encoder")),
        };
        let size = (target as f32 / settings.k as f32).sqrt();
        Ok(Trainer {
            settings: *settings,
            transcodes,
            encoder: Parameter::new(encoder),
            encoder_bias: Parameter::new(Tensor::zeros([features])),
            decoder: Parameter::new(written),
            bias: Parameter::new(Tensor::zeros([target])),
            thresholds: Parameter::new(Tensor::full([features], FIRST_THRESHOLD * size)),
            size,
            silent: vec![0; features],
            done: 0,
            rows: 0,
            least: None,
            resampled: 0,
            draws: settings.seed.child("resampling").rng(),
        })
    }

    pub(crate) fn steps_done(&self) -> u64 {
        self.done
    }

    /// Learns from normalised rows.
    pub(crate) fn step(&mut self, x: Tensor, y: Option<Tensor>) -> Result<StepReport, DictionaryError> {
        self.done += 1;
        self.rows += x.rows() as u64;
        let outcome = step::run(&self.weights(), &self.pass(&x, y.as_ref()))?;
        let step = self.done;
        if !outcome.unexplained.is_finite() {
            return Err(DictionaryError::NotFinite { what: "the loss", step });
        }
        let active = self.count(&outcome.active);
        self.learn(outcome.slopes)?;
        self.remember_least(&outcome.active);
        let due = RESAMPLED_AT.iter().any(|share| step == (share * self.settings.steps() as f64) as u64);
        if due && !self.settings.kind.has_auxiliary_loss() {
            self.resample(&x, &outcome.rest);
        }
        Ok(StepReport {
            step,
            steps: self.settings.steps(),
            rows: self.rows,
            unexplained: outcome.unexplained,
            active,
            dead: self.dead().count(),
        })
    }

    fn weights(&self) -> Weights<'_> {
        Weights {
            encoder: &self.encoder.value,
            encoder_bias: &self.encoder_bias.value,
            decoder: &self.decoder.value,
            bias: &self.bias.value,
            thresholds: &self.thresholds.value,
        }
    }

    fn pass<'p>(&self, x: &'p Tensor, y: Option<&'p Tensor>) -> Pass<'p> {
        let settings = &self.settings;
        let warm = schedule::sparsity(settings, self.done);
        let kept = match settings.kind {
            Kind::TopK | Kind::BatchTopK => schedule::kept(settings, self.done),
            Kind::Relu | Kind::JumpRelu => settings.k,
        };
        let dead: Vec<u32> = self.dead().map(|feature| feature as u32).collect();
        // As many as Gao et al. 2024 take, half of the width, but no more than are dead.
        let revived = (y.unwrap_or(x).columns() / 2).clamp(1, dead.len().max(1));
        let (penalty, bandwidth) = (warm * settings.penalty, BANDWIDTH * self.size);
        Pass { kind: settings.kind, kept, penalty, bandwidth, dead, revived, x, y }
    }

    /// Features that were silent for too long.
    fn dead(&self) -> impl Iterator<Item = usize> + '_ {
        let silent = self.silent.iter().enumerate();
        silent.filter(|(_, rows)| **rows >= self.settings.dead_after).map(|(feature, _)| feature)
    }

    /// Active features of a row on average; remembers which were.
    fn count(&mut self, active: &SparseRows) -> f64 {
        let rows = active.rows() as u64;
        self.silent.iter_mut().for_each(|silent| *silent += rows);
        active.columns().iter().for_each(|feature| self.silent[*feature as usize] = 0);
        active.columns().len() as f64 / rows as f64
    }

    /// One step of Adam for every tensor, then directions at length 1 and thresholds at zero or above.
    fn learn(&mut self, mut slopes: Slopes) -> Result<(), DictionaryError> {
        directions::project(&mut slopes.decoder, &self.decoder.value);
        let Slopes { encoder, encoder_bias, decoder, bias, thresholds } = slopes;
        let slopes = [Some(encoder), Some(encoder_bias), Some(bias), thresholds, Some(decoder)];
        let norm = global_norm(slopes.iter().flatten().map(Tensor::data));
        if !norm.is_finite() {
            return Err(DictionaryError::NotFinite { what: "a gradient", step: self.done });
        }
        let clip = (CLIP / norm.max(CLIP)) as f32;
        let adam = AdamW {
            learning_rate: schedule::learning_rate(&self.settings, self.done),
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        };
        // Thresholds are as large as features are, not as weights of directions.
        let wide = AdamW { learning_rate: adam.learning_rate * self.size, ..adam };
        let parameters = [
            &mut self.encoder,
            &mut self.encoder_bias,
            &mut self.bias,
            &mut self.thresholds,
            &mut self.decoder,
        ];
        let adams = [&adam, &adam, &adam, &wide, &adam];
        for ((parameter, slope), adam) in parameters.into_iter().zip(&slopes).zip(adams) {
            if let Some(slope) = slope {
                parameter.step(adam, self.done, slope, clip);
            }
        }
        directions::normalise(&mut self.decoder.value);
        self.thresholds.value.data_mut().iter_mut().for_each(|threshold| *threshold = threshold.max(0.0));
        Ok(())
    }

    /// Moves the running threshold towards the least that was kept of this batch.
    fn remember_least(&mut self, active: &SparseRows) {
        let warm = schedule::sparsity(&self.settings, self.done) >= 1.0;
        if self.settings.kind != Kind::BatchTopK || !warm {
            return;
        }
        let least = f64::from(active.values().iter().copied().fold(f32::INFINITY, f32::min));
        if least.is_finite() {
            self.least = Some(self.least.map_or(least, |mean| mean + RUNNING * (least - mean)));
        }
    }

    /// Sets every dead feature to write what a badly explained row lacks.
    fn resample(&mut self, x: &Tensor, rest: &Tensor) {
        let dead: Vec<usize> = self.dead().collect();
        let (width, target) = (x.columns(), rest.columns());
        let lengths = squares(&self.encoder.value);
        let live = lengths.iter().enumerate().filter(|(feature, _)| !dead.contains(feature));
        let (sum, count) =
            live.fold((0.0, 0usize), |(sum, count), (_, square)| (sum + square.sqrt(), count + 1));
        let length = if count > 0 { (sum / count as f64) as f32 } else { 1.0 };
        let rows = badly_explained(&squares(rest), dead.len(), &mut self.draws);
        for (feature, row) in dead.iter().copied().zip(rows) {
            let written = direction(&rest.data()[row * target..][..target]);
            let read = match self.transcodes {
                false => written.clone(),
                true => direction(&x.data()[row * width..][..width]),
            };
            let places = (0..width).map(|column| feature * width + column);
            self.encoder.reset(places, read.into_iter().map(|x| SHARE * length * x));
            self.decoder.reset((0..target).map(|column| feature * target + column), written.into_iter());
            self.encoder_bias.reset(std::iter::once(feature), std::iter::once(0.0));
            let threshold = FIRST_THRESHOLD * SHARE * self.size;
            self.thresholds.reset(std::iter::once(feature), std::iter::once(threshold));
            self.silent[feature] = 0;
            self.resampled += 1;
        }
        directions::normalise(&mut self.decoder.value);
    }

    /// The tensors in normalised units, and how many features were set anew.
    pub(crate) fn finish(self) -> (Parts, u64) {
        let features = self.settings.features;
        let rule = match self.settings.kind {
            Kind::Relu => Rule::Relu,
            Kind::TopK => Rule::TopK { k: self.settings.k },
            Kind::JumpRelu => Rule::JumpRelu { thresholds: self.thresholds.value },
            // A training too short to leave the warm-up has no threshold yet, and keeps all that is positive.
            Kind::BatchTopK => {
                Rule::JumpRelu { thresholds: Tensor::full([features], self.least.unwrap_or(0.0) as f32) }
            }
        };
        let parts = Parts {
            rule,
            encoder: self.encoder.value,
            encoder_bias: self.encoder_bias.value,
            decoder: transposed(&self.decoder.value),
            bias: self.bias.value,
            centred: !self.transcodes,
        };
        (parts, self.resampled)
    }
}
