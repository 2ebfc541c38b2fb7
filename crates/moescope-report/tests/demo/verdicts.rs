use moescope_base::{Answer, Answers, Confidence, Evidence, QuestionId};

/// Five answers, one of each confidence, one without evidence.
pub(super) fn answers() -> Answers {
    use Confidence::{High, Low, Moderate, Undecided};
    let loss = [
        claim(
            "The MoE has a lower loss than the very wide dense layer",
            "nats",
            (-0.0142, -0.0213, -0.0071),
            Some(0.004),
        ),
        claim("Frozen random routing keeps half of the gain", "%", (48.2, 39.5, 57.1), Some(0.0002)),
        claim("Experts are used evenly", "effective experts", (14.8, 14.1, 15.3), None),
        claim("Routing survives paraphrase", "agreement", (0.71, 0.66, 0.76), Some(0.03)),
    ];
    let cka =
        claim("CKA to dense falls per doubling of granularity", "CKA", (-0.061, -0.092, -0.033), Some(0.01));
    let paths = claim("Shuffling paths costs loss", "nats", (0.12, -0.01, 0.25), Some(0.08));
    let questions = vec![
        answer(
            QuestionId::Q1,
            High,
            "Yes. Of nine techniques, seven find what was planted and stay silent on the null.",
            &loss[2..3],
        ),
        answer(
            QuestionId::Q2,
            Moderate,
            "Mostly like very wide layers: width explains 87 % of the gain, experts the rest.",
            &loss,
        ),
        answer(
            QuestionId::Q3,
            Low,
            "Finer experts make representations less like those of the dense model, up to granularity 8.",
            &[cka],
        ),
        answer(
            QuestionId::Q4,
            Undecided,
            "This budget does not decide whether paths matter beyond the choice of experts.",
            &[paths],
        ),
        answer(QuestionId::Q5, Undecided, "No application was measured with enough seeds.", &[]),
    ];
    Answers { schema: 1, questions }
}

fn answer(id: QuestionId, confidence: Confidence, verdict: &str, evidence: &[Evidence]) -> Answer {
    Answer {
        id,
        question: id.question().to_owned(),
        verdict: verdict.to_owned(),
        confidence,
        evidence: evidence.to_vec(),
        limits: vec!["Five seeds; an effect below 0.005 nats would go unseen.".to_owned()],
    }
}

fn claim(
    text: &str,
    unit: &str,
    (estimate, ci_low, ci_high): (f64, f64, f64),
    p_holm: Option<f64>,
) -> Evidence {
    Evidence {
        claim: text.to_owned(),
        metric: "validation loss".to_owned(),
        unit: unit.to_owned(),
        contrast: "MoE − very wide dense".to_owned(),
        estimate,
        ci_low,
        ci_high,
        n_seeds: 5,
        test: "paired t over seeds, 95 % interval".to_owned(),
        p_holm,
        null: "0: routing at random".to_owned(),
        table: "loss_by_arm".to_owned(),
    }
}
