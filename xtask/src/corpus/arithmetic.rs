//! Arithmetic: sheets of sums, products, sequences and comparisons, generated.

use moescope_base::Seed;
use moescope_corpus::{Document, Domain};

/// Lines on one sheet.
const LINES: u64 = 24;

/// The domain; it depends on nothing but the budget.
pub(super) fn domain(budget: usize) -> Domain {
    let mut documents = Vec::new();
    let mut bytes = 0;
    while bytes < budget {
        let number = documents.len() as u64;
        let sheet = sheet(Seed(number).child("arithmetic"));
        bytes += sheet.len();
        documents.push(Document::new(format!("sheet {}", number + 1), sheet));
    }
    Domain::new("arithmetic", documents)
}

/// One sheet: numbers have up to 1, 2, 3 or 4 digits throughout.
fn sheet(seed: Seed) -> String {
    let bound = 10u64.pow(1 + (seed.index(0).0 % 4) as u32);
    let lines = (1..=LINES).map(|line| problem(seed.index(line), bound));
    lines.collect::<Vec<_>>().join("\n")
}

fn problem(seed: Seed, bound: u64) -> String {
    let (a, b) = (seed.index(1).0 % bound, seed.index(2).0 % bound);
    let (large, small) = (a.max(b), a.min(b));
    let factor = 2 + seed.index(3).0 % 8;
    match seed.index(4).0 % 6 {
        0 => format!("{a} + {b} = {}", a + b),
        1 => format!("{large} - {small} = {}", large - small),
        2 => format!("{a} * {factor} = {}", a * factor),
        3 => format!("{} / {factor} = {a}", a * factor),
        4 if a == b => format!("{a} = {b}"),
        4 => format!("{a} {} {b}", if a < b { '<' } else { '>' }),
        _ => {
            let terms = (0..6).map(|term| (a + term * factor).to_string());
            terms.collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sum_is_right_and_sheets_repeat() {
        let domain = domain(20_000);
        assert_eq!(domain, super::domain(20_000));
        let sums = domain.documents.iter().flat_map(|sheet| sheet.text.lines()).filter_map(|line| {
            let (sum, result) = line.split_once(" = ")?;
            let (a, b) = sum.split_once(" + ")?;
            Some([a, b, result].map(|number| number.parse::<u64>().unwrap()))
        });
        let sums: Vec<_> = sums.collect();
        assert!(sums.len() > 50);
        assert!(sums.iter().all(|[a, b, result]| a + b == *result));
    }
}
