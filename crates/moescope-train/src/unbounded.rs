//! A number that may be infinite, in JSON, which has no infinity: it is written as the word `"infinite"`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f32),
    Word(Word),
}

#[derive(Serialize, Deserialize)]
enum Word {
    #[serde(rename = "infinite")]
    Infinite,
}

/// The number, or the word.
pub(crate) fn serialize<S: Serializer>(number: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    let written =
        if *number == f32::INFINITY { Written::Word(Word::Infinite) } else { Written::Number(*number) };
    written.serialize(serializer)
}

/// Either of the two.
///
/// # Errors
/// For anything else.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    Ok(match Written::deserialize(deserializer)? {
        Written::Number(number) => number,
        Written::Word(Word::Infinite) => f32::INFINITY,
    })
}

#[cfg(test)]
mod tests {
    use crate::TrainPlan;
    use crate::testing::{Family, plan};

    #[test]
    fn a_plan_without_clipping_survives_json() {
        for clip in [f32::INFINITY, 0.1] {
            let plan = TrainPlan { clip, ..plan(Family::Dense, 3) };
            let json = serde_json::to_string(&plan).unwrap();
            assert_eq!(serde_json::from_str::<TrainPlan>(&json).unwrap(), plan);
        }
        let json = serde_json::to_string(&plan(Family::Dense, 3)).unwrap();
        assert!(
            serde_json::from_str::<TrainPlan>(&json.replace("\"clip\":1.0", "\"clip\":\"much\"")).is_err()
        );
    }
}
