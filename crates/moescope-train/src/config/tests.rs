use super::*;
use moescope_model::{FeedForward, RouterKind, Score};

const GOOD: &str = r#"[model]
family = "moe"
d_model = 32
layers = 2
heads = 4
d_ff = 64
expansion = 4
granularity = 4

[data]
corpus = "embedded"
vocab = 512
positions = 64

[training]
steps = 100
batch = 8
learning_rate = 3e-3
seed = 1
"#;

fn parse(text: &str) -> Result<TrainConfig, TrainError> {
    TrainConfig::parse(text, "run.toml")
}

/// The message for the good file with one piece replaced.
fn message(found: &str, replaced: &str) -> String {
    assert!(GOOD.contains(found), "{found}");
    parse(&GOOD.replacen(found, replaced, 1)).unwrap_err().to_string()
}

fn layer(family: &str) -> FeedForward {
    parse(&GOOD.replace("\"moe\"", &format!("\"{family}\""))).unwrap().model.feed_forward
}

#[test]
fn defaults_are_filled_in() {
    let config = parse(GOOD).unwrap();
    let plan = config.plan(500);
    assert_eq!(plan.schedule, crate::Schedule::Trapezoid { warmup: 5, decay: 25 });
    assert_eq!((plan.beta1, plan.beta2, plan.weight_decay, plan.clip), (0.9, 0.95, 0.1, 1.0));
    assert_eq!((plan.balance.loss, plan.balance.z_loss, plan.balance.loss_free), (0.01, 0.001, None));
    assert_eq!(
        (plan.description.vocab, plan.description.max_positions, plan.description.head_dim),
        (500, 64, 8)
    );
    assert!(plan.description.qk_norm && !plan.description.tied_embeddings);
    assert_eq!(config.domain_balance(), Balance::Equal);
}

#[test]
fn families_differ_in_one_key() {
    assert_eq!(layer("dense"), FeedForward::Dense { width: 64 });
    assert_eq!(layer("wide"), FeedForward::Dense { width: 256 });
    assert_eq!(layer("topk-dense"), FeedForward::TopKDense { width: 256, active: 64 });
    let kinds = [
        ("moe", RouterKind::Learned),
        ("hash", RouterKind::Hash { seed: 1 }),
        ("frozen", RouterKind::Frozen),
        ("random", RouterKind::Random { seed: 1 }),
        ("committee", RouterKind::Committee { members: 4 }),
    ];
    for (family, kind) in kinds {
        let FeedForward::Routed(routed) = layer(family) else { panic!("{family} is routed") };
        assert_eq!((routed.experts, routed.expert_width, routed.per_token), (16, 16, 4));
        assert_eq!((routed.router.kind, routed.router.score), (kind, Score::Softmax));
    }
}

#[test]
fn optional_keys_are_read() {
    let text = GOOD
        .replace("seed = 1", "seed = 1\nschedule = \"cosine\"\nwarmup = 7\nfloor = 0.2\nbalance_loss = 0.5")
        .replace("vocab = 512", "tokenizer = \"t.json\"\nevaluation_windows = 3\nbalance = \"proportional\"")
        .replace(
            "granularity = 4",
            "granularity = 4\nscore = \"sigmoid\"\nrenormalise = true\nqk_norm = false",
        );
    let config = parse(&text).unwrap();
    assert_eq!(config.training.schedule, crate::Schedule::Cosine { warmup: 7, floor: 0.2 });
    assert_eq!(config.training.balance.loss, 0.5);
    assert_eq!(config.data.vocabulary, Vocabulary::File("t.json".into()));
    assert_eq!((config.data.evaluation_windows, config.domain_balance()), (Some(3), Balance::Proportional));
    let FeedForward::Routed(routed) = config.model.feed_forward else { panic!("moe is routed") };
    assert!(routed.router.renormalise && routed.router.score == Score::Sigmoid && !config.model.qk_norm);
}

#[test]
fn unknown_keys_suggest_the_nearest() {
    let keys = message("granularity = 4", "granularty = 4");
    assert!(
        keys.starts_with("run.toml:8:1: unknown key `granularty`; did you mean `granularity`? Known keys here: family, d_model,"),
        "{keys}"
    );
    let section = message("[training]", "[trainning]");
    assert_eq!(
        section,
        "run.toml:15:2: unknown key `trainning`; did you mean `training`? Known keys here: model, data, training"
    );
    let value = message("\"moe\"", "\"mo\"");
    assert!(
        value.starts_with("run.toml:2:10: unknown value `mo`; did you mean `moe`? Known values here: dense,"),
        "{value}"
    );
    let far = message("seed = 1", "seed = 1\nthroughput = 3");
    assert!(far.starts_with("run.toml:20:1: unknown key `throughput`; Known keys here:"), "{far}");
}

/// Checks the whole message of each case: what is found in the good file, what replaces it, what is said.
fn assert_messages(cases: &[(&str, &str, &str)]) {
    for (found, replaced, wanted) in cases {
        assert_eq!(message(found, replaced), *wanted);
    }
}

#[test]
fn each_mistake_in_the_sizes_of_a_layer_has_its_message() {
    assert_messages(&[
        (
            "granularity = 4",
            "granularity = 3",
            "run.toml:8:15: `granularity` is 3, which does not divide `d_ff` = 64; wanted a divisor of it: 1, 2, 4, 8, 16, 32, 64",
        ),
        (
            "granularity = 4",
            "granularity = 4\nexperts = 12",
            "run.toml:9:11: `experts` is 12, but 16 follows from 16 experts of width 16, 4 per token; make them agree",
        ),
        (
            "d_ff = 64\nexpansion = 4\ngranularity = 4",
            "experts = 4\nexpert_width = 16\nper_token = 5",
            "run.toml:8:13: `per_token` is 5, wanted 1 to 4, the number of experts",
        ),
        (
            "expansion = 4\ngranularity = 4",
            "total_width = 100\nexperts = 8",
            "run.toml:8:11: `experts` is 8, which does not divide `total_width` = 100; wanted a divisor of it: 1, 2, 4, 5, 10, 20, 25, 50, 100",
        ),
        (
            "d_ff = 64\nexpansion = 4\ngranularity = 4",
            "experts = 6\nexpert_width = 16\nactive_share = 0.25",
            "run.toml:8:16: `active_share` is 0.25 of 6 experts, which makes 1.5; wanted a whole number, 1 or more",
        ),
        (
            "expansion = 4\n",
            "",
            "run.toml:1:1: found d_ff, granularity, wanted one of the sets {d_ff, expansion, granularity}, {experts, expert_width, per_token}, {total_width, d_ff, experts} or {expert_width, active_share, experts}",
        ),
        ("granularity = 4", "granularity = 0", "run.toml:8:15: `granularity` is 0, wanted 1 or more"),
    ]);
}

#[test]
fn each_mistake_in_heads_family_and_data_has_its_message() {
    assert_messages(&[
        (
            "heads = 4",
            "heads = 5",
            "run.toml:5:9: `heads` is 5, which does not divide `d_model` = 32; wanted a divisor, or `head_dim`",
        ),
        (
            "family = \"moe\"",
            "family = \"dense\"\nscore = \"softmax\"",
            "run.toml:3:9: `score` means nothing in the family Dense; remove it",
        ),
        ("vocab = 512", "vocab = 100", "run.toml:12:9: `vocab` is 100, wanted 257 or more"),
        (
            "vocab = 512",
            "vocab = 512\ntokenizer = \"t.json\"",
            "run.toml:12:9: found both `vocab` and `tokenizer`, wanted one: a tokenizer brings its vocabulary",
        ),
        (
            "vocab = 512\n",
            "",
            "run.toml:10:1: found neither `vocab` nor `tokenizer` in [data], wanted one of them",
        ),
    ]);
}

#[test]
fn each_mistake_in_training_has_its_message() {
    assert_messages(&[
        ("steps = 100", "steps = 0", "run.toml:16:9: `steps` is 0, wanted 1 to 2^40"),
        (
            "learning_rate = 3e-3",
            "learning_rate = -1.0",
            "run.toml:18:17: `learning_rate` is -1, wanted a finite number above 0",
        ),
        (
            "seed = 1",
            "seed = 1\nwarmup = 200",
            "run.toml:20:10: `schedule` is Trapezoid { warmup: 200, decay: 25 }, wanted warm-up and decay within the 100 steps of the run",
        ),
        (
            "seed = 1",
            "seed = 1\nfloor = 0.1",
            "run.toml:20:9: `floor` means nothing in a trapezoid, which falls towards 0; remove it",
        ),
        (
            "seed = 1",
            "seed = 1\ncheckpoints = [5, 101]",
            "run.toml:20:15: `checkpoints` is 101, wanted 0 to 100, the number of steps",
        ),
        ("seed = 1", "", "run.toml:15:1: missing key `seed`"),
        (
            "steps = 100",
            "steps = \"many\"",
            "run.toml:16:9: `steps`: found string \"many\", wanted a whole number, 0 or more",
        ),
        ("steps = 100", "steps = ", "run.toml:16:9: string values must be quoted, expected literal string"),
    ]);
}

#[test]
fn loss_free_balancing_needs_a_router_that_learns() {
    let text = GOOD.replace("\"moe\"", "\"hash\"").replace("seed = 1", "seed = 1\nloss_free = 0.001");
    let error = parse(&text).unwrap_err().to_string();
    assert!(error.starts_with("run.toml:20:13: `balance.loss_free` is 0.001, wanted none"), "{error}");
}

#[test]
fn an_error_marks_the_bytes_at_fault() {
    let text = GOOD.replace("granularity = 4", "granularity = 3");
    let TrainError::Config { span, .. } = parse(&text).unwrap_err() else { panic!("a configuration error") };
    assert_eq!(&text[span], "3");
}

#[test]
fn a_missing_file_is_named() {
    let error = TrainConfig::read(Path::new("/nowhere/run.toml")).unwrap_err().to_string();
    assert!(error.contains("cannot read /nowhere/run.toml"), "{error}");
}
