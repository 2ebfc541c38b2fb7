use super::*;
use crate::statistics::BootstrapMethod;
use moescope_base::{FeedForwardShape, Observation, SubjectError, SubjectShape, Tokens, Value, ValueData};
use moescope_model::{
    Activation, Description, FeedForward, Model, ModelSubject, Neuron, Norm, NormPlacement, Positions,
    Routed, Router, Shared, Variation,
};

fn resampling() -> Resampling {
    Resampling { replicates: 100, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(3) }
}

/// One block: the embedding of token `i` is `(1, 0)`, expert 0 writes `(0, 2)` with weight `w`, head 0 nothing. Logits of two tokens are
/// read from the two coordinates after a norm that divides by the root of the mean square.
struct ByHand {
    shape: SubjectShape,
    weight: f32,
}

impl ByHand {
    fn new(weight: f32) -> ByHand {
        let feed_forward = vec![FeedForwardShape::Routed { experts: 2, per_token: 1, expert_width: 1 }];
        let shape = SubjectShape {
            d_model: 2,
            vocab: 2,
            heads: 1,
            head_dim: 2,
            feed_forward,
            options: Default::default(),
        };
        ByHand { shape, weight }
    }

    fn stream(&self) -> [f32; 2] {
        [1.0, 2.0 * self.weight]
    }

    fn scale(vector: &[f32]) -> f32 {
        ((vector[0] * vector[0] + vector[1] * vector[1]) / 2.0).sqrt()
    }
}

impl Subject for ByHand {
    fn shape(&self) -> &SubjectShape {
        &self.shape
    }

    fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
        let tokens = request.tokens.len();
        let rows = (0..tokens as u32).collect::<Vec<u32>>();
        let value = |point: &HookPoint| {
            let row = |row: &[f32]| ValueData::Real(row.repeat(tokens));
            let stream = self.stream();
            let scale = ByHand::scale(&stream);
            let (data, last) = match (point.site(), point.expert_index()) {
                (Site::Embed, _) => (row(&[1.0, 0.0]), 2),
                (Site::MlpOut, _) => (row(&[0.0, stream[1]]), 2),
                (Site::RouterIndices, _) => (ValueData::Integer(vec![0; tokens]), 1),
                (Site::RouterWeights, _) => (row(&[self.weight]), 1),
                (Site::FinalScale, _) => (row(&[scale]), 1),
                (Site::Logits, _) => (row(&[stream[0] / scale, stream[1] / scale]), 2),
                (Site::AttnResult, _) => {
                    let shape = vec![request.tokens.batch(), request.tokens.positions(), 1, 2];
                    return (*point, Value::new(*point, shape, row(&[0.0, 0.0]), None).unwrap());
                }
                (Site::ExpertOut, Some(0)) => {
                    let data = row(&[0.0, 2.0]);
                    return (*point, Value::new(*point, vec![tokens, 2], data, Some(rows.clone())).unwrap());
                }
                (Site::ExpertOut, _) => {
                    let none = ValueData::Real(Vec::new());
                    return (*point, Value::new(*point, vec![0, 2], none, Some(Vec::new())).unwrap());
                }
                _ => (row(&[0.0, 0.0]), 2),
            };
            let shape = vec![request.tokens.batch(), request.tokens.positions(), last];
            (*point, Value::new(*point, shape, data, None).unwrap())
        };
        Ok(Observation { values: request.record.iter().map(value).collect(), ..Observation::default() })
    }

    fn unembed(&mut self, residual: &[f32]) -> Result<Vec<f32>, SubjectError> {
        let read = |row: &[f32]| {
            let scale = ByHand::scale(row).max(1e-12);
            [row[0] / scale, row[1] / scale]
        };
        Ok(residual.chunks_exact(2).flat_map(read).collect())
    }
}

#[test]
fn two_parts_by_hand() {
    let tokens = Tokens::new([0, 1, 1].repeat(4), 4, 3).unwrap();
    let samples = [Sample::one_document_each(tokens, 0)];
    let found = logit_attribution(&mut ByHand::new(0.5), &samples, Seed(1), resampling()).unwrap();
    // The stream is (1, 1) and its scale 1. Of the next token, 1 in all eight rows, the logit against the mean of both is 0: the
    // embedding takes one half of it and the expert gives it back.
    let of = |part: Part| found.parts.iter().find(|found| found.part == part).unwrap();
    assert!((of(Part::Embedding).mean.estimate + 0.5).abs() < 1e-6);
    assert!((of(Part::Expert(0, 0)).mean.estimate - 0.5).abs() < 1e-6);
    assert_eq!(of(Part::Head(0, 0)).mean.estimate, 0.0);
    assert!(found.logit.estimate.abs() < 1e-6 && found.residue < 1e-6 && found.base == 0.0);
    assert!(found.parts.iter().all(|found| found.part != Part::Expert(0, 1)), "nobody chose it");
    assert_eq!(
        (of(Part::Expert(0, 0)).active, of(Part::Expert(0, 0)).where_active),
        (1.0, of(Part::Expert(0, 0)).mean.estimate)
    );
}

fn description(variation: Variation, shared: Option<Shared>) -> Description {
    let routed = Routed { experts: 5, expert_width: 8, per_token: 2, router: Router::learned(true), shared };
    Description {
        vocab: 24,
        d_model: 16,
        heads: 4,
        key_value_heads: 2,
        head_dim: 4,
        rope_theta: 10_000.0,
        norm_epsilon: 1e-6,
        max_positions: 16,
        tied_embeddings: false,
        qk_norm: false,
        feed_forward: vec![FeedForward::Dense { width: 24 }, FeedForward::Routed(routed)],
        variation,
    }
}

fn of_model(description: Description) -> Result<Attribution, AnalysisError> {
    let mut subject = ModelSubject::new(Model::initialise(description, Seed(7)).unwrap());
    let ids = (0..64).map(|i| (i * 7 + i * i * 3) % 24).collect();
    let samples = [Sample::one_document_each(Tokens::new(ids, 8, 8).unwrap(), 0)];
    logit_attribution(&mut subject, &samples, Seed(1), resampling())
}

#[test]
fn the_parts_of_any_model_sum_to_its_logits() {
    let shared = Some(Shared { width: 8, weighted: true });
    let plain = Variation::default;
    for (name, variation, shared) in [
        ("plain", plain(), None),
        ("shared expert", plain(), shared),
        ("layer norm", Variation { norm: Norm::Layer, ..plain() }, None),
        ("learned positions", Variation { positions: Positions::Learned, ..plain() }, None),
        ("norms around", Variation { norm_placement: NormPlacement::Around, ..plain() }, None),
        ("factors", Variation { residual_scale: 0.5, logit_scale: 0.25, ..plain() }, None),
        ("no gate", Variation { neuron: Neuron::Plain(Activation::Gelu), ..plain() }, None),
    ] {
        let found = of_model(description(variation, shared)).unwrap();
        assert!(found.residue < 1e-4, "{name}: {}", found.residue);
        let sum: f64 = found.parts.iter().map(|part| part.mean.estimate).sum();
        assert!((sum + found.base - found.logit.estimate).abs() < 1e-4, "{name}");
        let rest = found.parts.iter().find(|part| part.part == Part::FeedForward(1)).unwrap();
        if name == "plain" {
            assert!(rest.mean.estimate.abs() < 1e-5, "experts are all of a routed layer");
        }
    }
}

#[test]
fn capped_logits_are_refused() {
    let capped = Variation { logit_cap: Some(0.05), ..Variation::default() };
    let error = of_model(description(capped, None)).unwrap_err().to_string();
    assert!(error.contains("no cap on the logits"), "{error}");
}

#[test]
fn in_a_model_that_has_learned_nothing_no_part_writes_what_comes() {
    let found = |seed: &u64| {
        let model = Model::initialise(description(Variation::default(), None), Seed(*seed)).unwrap();
        let mut rng = Seed(*seed).child("text").rng();
        let ids = (0..640).map(|_| rand::RngExt::random_range(&mut rng, 0..24)).collect();
        let samples = [Sample::one_document_each(Tokens::new(ids, 40, 16).unwrap(), 0)];
        let found =
            logit_attribution(&mut ModelSubject::new(model), &samples, Seed(*seed), resampling()).unwrap();
        let expert = found.parts.iter().find(|part| part.part == Part::Expert(1, 0)).unwrap().mean;
        expert.low > 0.0 || expert.high < 0.0
    };
    // Of 200 intervals of 95 %, 20 and more miss in less than 1 of 300 cases.
    let claimed = (0..200).filter(found).count();
    assert!(claimed < 22, "{claimed} of 200");
}

#[test]
fn experts_and_tokens_may_be_renamed() {
    let ids: Vec<u32> = (0..64).map(|i| (i * 7 + i * i * 3) % 24).collect();
    let found = |rename: &dyn Fn(&str, &mut [f32]), ids: Vec<u32>| {
        let mut model = Model::initialise(description(Variation::default(), None), Seed(7)).unwrap();
        for parameter in model.parameters_mut() {
            let name = parameter.name.clone();
            rename(&name, parameter.tensor.data_mut());
        }
        let samples = [Sample::one_document_each(Tokens::new(ids, 8, 8).unwrap(), 0)];
        logit_attribution(&mut ModelSubject::new(model), &samples, Seed(1), resampling()).unwrap()
    };
    let plain = found(&|_, _| {}, ids.clone());
    let part = |found: &Attribution, part: Part| {
        found.parts.iter().find(|one| one.part == part).map_or(0.0, |one| one.mean.estimate)
    };
    // Expert e of the routed block is what e + 1 was.
    let turned = found(
        &|name, data| {
            if name.contains("layers.1.mlp") {
                let size = data.len() / 5;
                data.rotate_left(size);
            }
        },
        ids.clone(),
    );
    // Token t is what t + 1 was, in the text and in both tables.
    let retold = found(
        &|name, data| {
            if name.contains("embed_tokens") || name.contains("lm_head") {
                data.rotate_left(16);
            }
        },
        ids.iter().map(|id| (id + 23) % 24).collect(),
    );
    for expert in 0..5 {
        let before = part(&plain, Part::Expert(1, expert));
        assert!((before - part(&turned, Part::Expert(1, (expert + 4) % 5))).abs() < 1e-5);
        assert!((before - part(&retold, Part::Expert(1, expert))).abs() < 1e-5);
    }
    assert!((0..5).any(|expert| part(&plain, Part::Expert(1, expert)).abs() > 1e-3), "something to tell");
}

#[test]
fn an_expert_that_writes_what_comes_is_found_and_so_are_those_that_do_not() {
    // Token 1 comes everywhere; the expert writes its direction with this weight, the embedding the other one.
    let tokens = Tokens::new([0, 1, 1].repeat(6), 6, 3).unwrap();
    let samples = [Sample::one_document_each(tokens, 0)];
    let of = |weight: f32| {
        let found = logit_attribution(&mut ByHand::new(weight), &samples, Seed(1), resampling()).unwrap();
        let best = found.parts.iter().max_by(|a, b| a.mean.estimate.total_cmp(&b.mean.estimate)).unwrap();
        (best.part, best.mean.low > 0.0)
    };
    assert_eq!(of(2.0), (Part::Expert(0, 0), true));
    assert_ne!(of(-2.0), (Part::Expert(0, 0), true), "against what comes");
    assert!(!of(0.0).1, "an expert that writes nothing");
}
