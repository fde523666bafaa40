//! `org.opencontainers.image.licenses`: the label of an image names the licences of all that is in it, and no other.

use spdx::{Expression, LicenseReq, ParseMode};

use super::Component;

/// The licence of this project, which each image has programs of or patches in.
const OWN: &str = "Apache-2.0";

/// What is wrong with the label of an image that holds these components.
pub(super) fn problem<'a>(label: &str, components: impl IntoIterator<Item = &'a Component>) -> Result<(), String> {
    let named: Vec<LicenseReq> = parse(label)?.requirements().map(|it| it.req.clone()).collect();
    if label.contains(" OR ") {
        return Err(format!("{label:?} leaves a choice"));
    }
    let mut inside = vec![(OWN.to_owned(), parse(OWN)?)];
    for Component { name, licence, .. } in components {
        let licence = licence.as_ref().ok_or_else(|| format!("nobody knows the licence of {name}"))?;
        inside.push((format!("{licence} of {name}"), parse(licence)?));
    }
    let all: Vec<&LicenseReq> = named.iter().collect();
    if let Some((lacking, _)) = inside.iter().find(|(_, licence)| !fits(licence, &all)) {
        return Err(format!("it lacks {lacking}"));
    }
    for (number, one) in named.iter().enumerate() {
        let others: Vec<&LicenseReq> =
            all.iter().enumerate().filter(|(it, _)| *it != number).map(|(_, it)| *it).collect();
        if inside.iter().all(|(_, licence)| fits(licence, &others)) {
            return Err(format!("{one} is the licence of nothing inside"));
        }
    }
    Ok(())
}

/// Whether the licences `named` are enough for all that an expression asks for.
fn fits(licence: &Expression, named: &[&LicenseReq]) -> bool {
    licence.evaluate(|it| named.contains(&it))
}

/// Old crates write `MIT/Apache-2.0`.
fn parse(text: &str) -> Result<Expression, String> {
    Expression::parse_mode(text, ParseMode::LAX).map_err(|error| format!("{text:?} is no licence: {}", error.reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_names_what_is_inside_and_nothing_else() {
        let component = |licence: &&str| Component {
            purl: String::new(),
            name: "x".to_owned(),
            version: String::new(),
            checksum: None,
            licence: (!licence.is_empty()).then(|| (*licence).to_owned()),
            file: String::new(),
            text: vec![],
        };
        for (label, inside, expected) in [
            ("Apache-2.0", &[][..], Ok(())),
            ("Apache-2.0 AND MIT", &["MIT", "MIT"], Ok(())),
            ("Apache-2.0", &["MIT OR Apache-2.0", "MIT/Apache-2.0"], Ok(())),
            ("Apache-2.0", &["MIT"], Err("it lacks MIT of x")),
            ("MIT", &["MIT"], Err("it lacks Apache-2.0")),
            ("Apache-2.0 AND MIT", &["MIT AND ISC"], Err("it lacks MIT AND ISC of x")),
            ("Apache-2.0 AND GPL-2.0-only", &["GPL-2.0-or-later"], Err("it lacks GPL-2.0-or-later of x")),
            ("Apache-2.0 AND MIT", &["MIT OR Apache-2.0"], Err("MIT is the licence of nothing inside")),
            ("Apache-2.0 OR MIT", &["MIT"], Err("\"Apache-2.0 OR MIT\" leaves a choice")),
            ("Apache-2.0", &[""], Err("nobody knows the licence of x")),
            ("Apache-2.0 AND Y", &[], Err("\"Apache-2.0 AND Y\" is no licence: unknown term")),
        ] {
            let components: Vec<_> = inside.iter().map(component).collect();
            assert_eq!(problem(label, &components), expected.map_err(str::to_owned), "{label}, {inside:?}");
        }
    }
}
