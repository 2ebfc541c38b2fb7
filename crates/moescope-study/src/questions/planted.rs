//! Results written by hand, so that the right answer is known.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::compare::{Comparison, Pair};
use crate::dataset::DatasetFacts;
use crate::measure::Measures;
use crate::results::{Results, TaskFacts};
use crate::roster::{Rate, Run, Workload};
use crate::{Family, StudyConfig};

/// What is planted; every closure gets the family and the seed.
pub(crate) struct Planted {
    pub(crate) loss: fn(Family, u64) -> f64,
    /// What a learning rate adds to the loss of a family.
    pub(crate) rate_cost: fn(Family, Rate) -> f64,
    pub(crate) domain_information: fn(Family, u64) -> f64,
    /// In dimensions.
    pub(crate) expert_participation: fn(Family, u64) -> f64,
    pub(crate) accuracy: fn(Workload, Family, u64) -> f64,
    /// Loss with few allowed sets minus unrestricted.
    pub(crate) restriction_cost: fn(u64) -> f64,
    /// Accuracy on the control task of the domain probe; on the task itself it is 0.8.
    pub(crate) domain_control: f64,
    /// Similarity of MoE to a wide model; two wide models have 0.9.
    pub(crate) moe_similarity: fn(u64) -> f64,
}

impl Planted {
    /// Nothing to find: all families alike, up to noise that changes its sign over seeds.
    pub(crate) const NOTHING: Planted = Planted {
        loss: |family, seed| 3.0 + wobble(family, seed),
        rate_cost: |_, _| 0.0,
        domain_information: |family, seed| 0.2 + wobble(family, seed),
        expert_participation: |family, seed| 10.0 + wobble(family, seed),
        accuracy: |_, family, seed| 0.5 + wobble(family, seed),
        restriction_cost: |seed| wobble(Family::TopKDense, seed),
        domain_control: 0.4,
        moe_similarity: |seed| 0.9 + wobble(Family::TopKDense, seed),
    };
}

/// Noise of about 0.01 that has no family's mean on one side.
pub(crate) fn wobble(family: Family, seed: u64) -> f64 {
    let hash = moescope_base::Seed(seed).child(&family.to_string()).0;
    (hash % 2001) as f64 / 1000.0 * 0.01 - 0.01
}

/// Results in which exactly that is found.
pub(crate) fn results(planted: &Planted) -> Results {
    let mut config = StudyConfig::parse(StudyConfig::preset_text("smoke").unwrap(), "smoke").unwrap();
    config.seeds = 8;
    let runs = config.roster().into_iter().map(|run| (run, measures(&config, planted, &run))).collect();
    let comparisons = config.seed_list().into_iter().map(|seed| (seed, comparison(planted, seed))).collect();
    let facts = TaskFacts { chance_accuracy: 0.1, vocabulary: 32 };
    Results {
        dataset: dataset(),
        tasks: Workload::TASKS.into_iter().map(|task| (task, facts.clone())).collect(),
        runs,
        comparisons,
        analyses: Vec::new(),
        config,
    }
}

fn dataset() -> DatasetFacts {
    DatasetFacts {
        domain_names: vec!["prose".into(), "code".into()],
        vocabulary: 384,
        training_tokens: 1000,
        validation_tokens: 100,
        validation_documents: 10,
        cut_domains: Vec::new(),
        unigram_entropy: 5.0,
        training_hash: "a".into(),
        validation_hash: "b".into(),
        tokenizer_hash: "c".into(),
    }
}

fn measures(config: &StudyConfig, planted: &Planted, run: &Run) -> Measures {
    let mut document = json!({ "parameters_total": 1000, "parameters_active": 500, "flops_per_token": 1000, "rate_factor": 1.0 });
    if (planted.rate_cost)(run.family, run.rate).is_infinite() {
        document["diverged"] = json!(7);
    } else if run.workload == Workload::Language {
        let loss = (planted.loss)(run.family, run.seed) + (planted.rate_cost)(run.family, run.rate);
        document["language"] = json!({ "loss": loss, "loss_by_domain": [loss, loss], "accuracy": 0.3 });
        document["probes"] = probes(planted, run);
        document["lens"] = json!({ "divergence": [1.0, 0.0], "agreement": [0.4, 1.0], "rotated": 4.0 });
        document["attribution"] = attribution(run);
        if let Family::Moe { .. } = run.family {
            document["routing"] = json!({ "layers": [layer(planted, run)] });
            document["paths"] = paths(run);
            document["restriction"] = restriction(config, planted, run, loss);
        }
    } else {
        let accuracy = (planted.accuracy)(run.workload, run.family, run.seed);
        let bits = (run.workload == Workload::Facts).then_some(accuracy / 100.0);
        document["task"] = json!({ "accuracy": accuracy, "loss": 1.0, "bits_per_parameter": bits });
    }
    serde_json::from_value(document).unwrap()
}

fn probes(planted: &Planted, run: &Run) -> Value {
    let accuracy = 0.8 + wobble(run.family, run.seed);
    let score = |control: f64| json!({ "accuracy": accuracy, "control": control, "majority": 0.2 });
    json!({ "domain": score(planted.domain_control), "class": score(0.4) })
}

fn attribution(run: &Run) -> Value {
    let wobble = wobble(run.family, run.seed);
    json!({
        "edits": 100, "pearson": 0.9 + wobble, "flip_share": 0.3,
        "error_with_flip": 0.6 + wobble, "error_without_flip": 0.5 - wobble,
        "frozen_error_with_flip": 0.5
    })
}

fn layer(planted: &Planted, run: &Run) -> Value {
    let information = (planted.domain_information)(run.family, run.seed);
    let test = json!({ "observed": information + 0.01, "null_mean": 0.01, "p_value": 0.01, "adjusted_share": information });
    let rank = 20.0 + wobble(run.family, run.seed);
    json!({
        "layer": 0, "effective_experts": 3.0, "max_violation": 0.2, "dead_share": 0.0, "entropy": 1.0, "domain": test,
        "token": test, "domain_given_token": test, "layer_rank": rank, "layer_participation": rank, "expert_rank": rank, "expert_rank_share": rank / 64.0,
        "expert_participation": (planted.expert_participation)(run.family, run.seed),
        "expert_participation_share": (planted.expert_participation)(run.family, run.seed) / 64.0
    })
}

fn paths(run: &Run) -> Value {
    let test = json!({ "observed": 0.5, "null_mean": 0.1, "p_value": 0.01, "adjusted_share": 0.5 });
    json!({
        "tokens": 100, "distinct": 50, "entropy": 5.0 + wobble(run.family, run.seed), "entropy_shuffled": 6.0,
        "log2_possible": 8.0, "coverage": [{ "paths": 1, "share": 0.1 }, { "paths": 16, "share": 0.6 }], "domain": test,
        "token": test, "single_domain": 0.3 + wobble(run.family, run.seed), "single_token": 0.3
    })
}

fn restriction(config: &StudyConfig, planted: &Planted, run: &Run, loss: f64) -> Value {
    let sets = &config.instruments.restriction;
    let cost = (planted.restriction_cost)(run.seed);
    let point = |(rank, sets): (usize, &usize)| {
        let cost = if rank + 1 < config.instruments.restriction.len() {
            cost
        } else {
            wobble(run.family, run.seed) / 10.0
        };
        json!({ "sets": sets, "loss": loss + cost, "random_sets_loss": loss + 2.0 * cost })
    };
    json!({ "unrestricted_loss": loss, "points": sets.iter().enumerate().map(point).collect::<Vec<_>>() })
}

fn comparison(planted: &Planted, seed: u64) -> Comparison {
    let pair = |similarity: f64| Pair { similarity: vec![similarity, similarity], loss_correlation: 0.8 };
    let noisy = |similarity: f64, name: usize| pair(similarity + wobble(Family::Dense { times: name }, seed));
    Comparison {
        moe_wide: pair((planted.moe_similarity)(seed)),
        wide_wide: noisy(0.9, 91),
        moe_untrained: noisy(0.2, 92),
        topk_wide: noisy(0.7, 93),
        dense_wide: noisy(0.8, 94),
    }
}

/// Every answer by the name of its question.
pub(crate) fn verdicts(planted: &Planted) -> BTreeMap<String, moescope_base::Answer> {
    let conclusion = crate::conclude(&results(planted)).unwrap();
    conclusion.answers.questions.into_iter().map(|answer| (answer.id.to_string(), answer)).collect()
}

#[cfg(test)]
mod tests;
