//! Claims: numbers over seeds become decisions, and decisions become sentences.
//!
//! The independent unit is the seed. Tokens and documents never count as `n` of a claim about a kind of model, since
//! thousands of tokens through one trained model are still one trained model. All claims of a question are decided in
//! one call, because the correction for looking at many things has to know all of them.

use moescope_analysis::statistics;
use moescope_base::Evidence;

use crate::StudyError;

/// Probability of error that the claims of one question may have together.
///
/// It bounds the chance that *any* claim of a group is decided wrongly, not the share of wrong ones among the
/// decided. A question has up to four such groups: primary and secondary claims, each tested for difference and for
/// equivalence.
pub const LEVEL: f64 = 0.05;

/// A claim before it is decided: one number for each seed, and the sentences that may come out.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    /// Short name by which a verdict finds the claim.
    pub(crate) key: String,
    /// What was measured, as a noun: `validation loss`.
    pub(crate) metric: &'static str,
    /// Unit of the values; empty for what has none, such as correlations.
    pub(crate) unit: &'static str,
    /// What was compared with what, in the order of the subtraction: `a − b`.
    pub(crate) contrast: String,
    /// What the values would be if there were nothing to find. The test is against zero.
    pub(crate) null: &'static str,
    /// Name of the table in which a reader finds the numbers behind the claim.
    pub(crate) table: &'static str,
    /// `values[seed]`: one difference for each seed, paired by seed. Pairing removes what the seed does to both
    /// models alike.
    pub(crate) values: Vec<f64>,
    /// Whether the verdict rests on it. Primary and secondary claims are corrected apart, so that looking at more things
    /// does not weaken what was asked first.
    pub(crate) primary: bool,
    /// Difference that counts as none, in the unit of the values and fixed by the configuration before any result is
    /// seen; absent if "the same" is not to be claimable.
    pub(crate) margin: Option<f64>,
    /// The sentences.
    pub(crate) wording: Wording,
}

/// What a claim says in each case. All four sentences are written before the data are looked at, so that no result
/// can choose its own words.
#[derive(Clone, Debug)]
pub(crate) struct Wording {
    /// If the values are decided to be above zero.
    pub(crate) above: String,
    /// If they are decided to be below zero.
    pub(crate) below: String,
    /// If they are decided to lie within the margin.
    pub(crate) same: String,
    /// If nothing is decided.
    pub(crate) open: String,
}

/// What the data decide about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Above zero, by a test corrected for the number of claims.
    Above,
    /// Below zero, likewise.
    Below,
    /// Within the margin, by two one-sided tests, corrected likewise. Takes precedence over the two above: a
    /// difference may be real and still too small to matter.
    Same,
    /// None of these: the seeds at hand do not tell. It is not evidence that there is no effect.
    Open,
}

/// A decided claim.
///
/// The p-value in it is that of the difference test; a claim may be [`Decision::Same`] with a p-value that is small.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Name by which a verdict finds the claim, unique within its question.
    pub key: String,
    /// What the data decide.
    pub decision: Decision,
    /// Margin of equivalence in the unit of the evidence, if there was one.
    pub margin: Option<f64>,
    /// The claim as it goes into the answers: the sentence of its decision, mean, 95 % t-interval, Holm p-value,
    /// number of seeds. The interval is of this claim alone and is not widened for the number of claims, so it may
    /// exclude zero where the corrected test leaves the claim open.
    pub evidence: Evidence,
}

/// Decides the claims of one question together.
///
/// Each draft is tested against zero by a t-test over seeds and, if it has a margin, for equivalence by two one-sided
/// t-tests. Holm's correction runs over the primary and over the secondary claims separately, and within each over the
/// tests of difference and over those of equivalence; each of these groups keeps its chance of any wrong decision below
/// [`LEVEL`].
///
/// With as few as three seeds the t-distribution has heavy tails, and only means of many standard errors survive the
/// correction; that is intended.
///
/// # Errors
/// If a draft has fewer than two values or one that is not a number.
pub(crate) fn decide(drafts: Vec<Draft>) -> Result<Vec<Claim>, StudyError> {
    let tests: Vec<Test> = drafts.iter().map(Test::of).collect::<Result<_, _>>()?;
    let primary: Vec<bool> = drafts.iter().map(|draft| draft.primary).collect();
    let difference = holm_by_group(&tests.iter().map(|t| t.difference).collect::<Vec<_>>(), &primary);
    let equivalence: Vec<f64> = tests.iter().map(|t| t.equivalence.unwrap_or(f64::NAN)).collect();
    let equivalence = holm_by_group(&equivalence, &primary);
    let corrected = difference.into_iter().zip(equivalence);
    let claims = drafts.into_iter().zip(&tests).zip(corrected).map(|((draft, test), (p_holm, p_same))| {
        claim(draft, test, p_holm, test.equivalence.map(|_| p_same))
    });
    Ok(claims.collect())
}

/// Holm's correction within the primary and within the secondary claims. What is not a number was not tested.
fn holm_by_group(p_values: &[f64], primary: &[bool]) -> Vec<f64> {
    let group = |wanted: bool| {
        let of = |(p, is): (&f64, &bool)| if *is == wanted { *p } else { f64::NAN };
        statistics::holm(&p_values.iter().zip(primary).map(of).collect::<Vec<_>>())
    };
    let (first, second) = (group(true), group(false));
    first
        .iter()
        .zip(second)
        .zip(primary)
        .map(|((first, second), is)| if *is { *first } else { second })
        .collect()
}

/// The tests of one draft, uncorrected: mean and its 95 % t-interval over seeds in the unit of the draft, the
/// two-sided p-value against zero, and the p-value of equivalence (the larger of two one-sided ones) if there is a
/// margin.
struct Test {
    mean: f64,
    low: f64,
    high: f64,
    difference: f64,
    equivalence: Option<f64>,
}

impl Test {
    /// Tests one draft. The errors are those of the statistics: fewer than two values, a value that is not finite, or
    /// a margin that is not positive.
    fn of(draft: &Draft) -> Result<Test, StudyError> {
        let summary = statistics::one_sample(&draft.values)?;
        let equivalence = draft.margin.map(|margin| statistics::tost(&draft.values, margin)).transpose()?;
        Ok(Test {
            mean: summary.mean,
            low: summary.low,
            high: summary.high,
            difference: summary.p_value,
            equivalence: equivalence.map(|e| e.p_value),
        })
    }
}

/// Chooses decision and sentence from the corrected p-values.
///
/// Equivalence comes first: a difference can be real and yet lie within what was called none beforehand, and then
/// saying "better" would mislead.
fn claim(draft: Draft, test: &Test, p_holm: f64, p_same: Option<f64>) -> Claim {
    let decision = match p_same {
        Some(p) if p < LEVEL => Decision::Same,
        _ if p_holm >= LEVEL => Decision::Open,
        _ if test.mean > 0.0 => Decision::Above,
        _ => Decision::Below,
    };
    let wording = draft.wording;
    let sentence = match decision {
        Decision::Above => wording.above,
        Decision::Below => wording.below,
        Decision::Same => wording.same,
        Decision::Open => wording.open,
    };
    let evidence = Evidence {
        claim: sentence,
        metric: draft.metric.into(),
        unit: draft.unit.into(),
        contrast: draft.contrast,
        estimate: test.mean,
        ci_low: test.low,
        ci_high: test.high,
        n_seeds: draft.values.len(),
        test: describe_test(draft.primary, draft.margin, p_same),
        p_holm: Some(p_holm),
        null: draft.null.into(),
        table: draft.table.into(),
    };
    Claim { key: draft.key, decision, margin: draft.margin, evidence }
}

/// The test in words, as the answers show it. The p-value of equivalence stands here, since the evidence has one
/// field for p-values and the difference test holds it.
fn describe_test(primary: bool, margin: Option<f64>, p_same: Option<f64>) -> String {
    let rank = if primary { "primary" } else { "secondary" };
    let difference = format!("{rank}; t-test and 95 % t-interval over seeds");
    match (margin, p_same) {
        (Some(margin), Some(p)) => {
            format!("{difference}; equivalence within ±{margin} (TOST): p (Holm) {}", p_in_words(p))
        }
        _ => difference,
    }
}

/// A p-value with its sign of comparison, for sentences: `= 0.012`, and `< 0.001` for what is less than that but never nothing.
fn p_in_words(p: f64) -> String {
    if p < 0.001 { "< 0.001".into() } else { format!("= {p:.3}") }
}

/// A list of claims in which a verdict looks things up.
pub(crate) struct Claims<'a>(pub &'a [Claim]);

impl Claims<'_> {
    /// The claim of that name. Panics for a name that the question did not draft: that is a mistake in the verdict,
    /// which every test of the question finds.
    pub(crate) fn get(&self, key: &str) -> &Claim {
        self.0.iter().find(|c| c.key == key).expect("a verdict asks only for claims of its own question")
    }

    /// What is decided about the claim of that name.
    pub(crate) fn decision(&self, key: &str) -> Decision {
        self.get(key).decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(values: Vec<f64>, margin: Option<f64>) -> Draft {
        let wording = Wording {
            above: "above".into(),
            below: "below".into(),
            same: "same".into(),
            open: "open".into(),
        };
        Draft {
            key: "k".into(),
            metric: "m",
            unit: "nats",
            contrast: "a − b".into(),
            null: "0",
            table: "t",
            values,
            primary: true,
            margin,
            wording,
        }
    }

    fn decision(values: Vec<f64>, margin: Option<f64>) -> Decision {
        decide(vec![draft(values, margin)]).unwrap()[0].decision
    }

    #[test]
    fn clear_differences_are_decided_with_their_sign() {
        assert_eq!(decision(vec![1.0, 1.01, 0.99], None), Decision::Above);
        assert_eq!(decision(vec![-1.0, -1.01, -0.99], Some(0.1)), Decision::Below);
    }

    #[test]
    fn noise_is_left_open_and_tiny_differences_are_the_same() {
        assert_eq!(decision(vec![1.0, -1.1, 0.2], Some(0.1)), Decision::Open);
        assert_eq!(decision(vec![0.010, 0.011, 0.009], Some(0.1)), Decision::Same);
    }

    #[test]
    fn many_claims_need_stronger_evidence() {
        let weak = vec![1.0, 1.4, 0.7];
        assert_eq!(decision(weak.clone(), None), Decision::Above);
        let many = decide(vec![draft(weak, None); 20]).unwrap();
        assert!(many.iter().all(|c| c.decision == Decision::Open));
    }

    #[test]
    fn secondary_claims_do_not_weaken_primary_ones() {
        let weak = vec![1.0, 1.4, 0.7];
        let secondary = Draft { primary: false, ..draft(weak.clone(), Some(0.1)) };
        let mut drafts = vec![secondary; 20];
        drafts.push(draft(weak, Some(0.1)));
        let claims = decide(drafts).unwrap();
        assert_eq!(claims[20].decision, Decision::Above);
        assert!(claims[..20].iter().all(|c| c.decision == Decision::Open));
    }

    #[test]
    fn a_p_value_is_never_said_to_be_nothing() {
        assert_eq!(p_in_words(0.0004), "< 0.001");
        assert_eq!(p_in_words(0.0), "< 0.001");
        assert_eq!(p_in_words(0.001), "= 0.001");
        assert_eq!(p_in_words(1.0), "= 1.000");
        let same = decide(vec![draft(vec![0.0100, 0.0101, 0.0099], Some(5.0))]).unwrap();
        assert!(same[0].evidence.test.ends_with("p (Holm) < 0.001"), "{}", same[0].evidence.test);
    }

    #[test]
    fn a_value_that_is_no_number_is_refused() {
        assert!(decide(vec![draft(vec![1.0, f64::NAN], None)]).is_err());
    }
}
