use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn parse(label: &str) -> Result<Option<Selection>, ParseError> {
    Selection::parse(Some(label), None, None)
}

#[test]
fn selections_that_narrow_nothing_are_none() {
    assert_eq!(Selection::parse(None, None, None), Ok(None));
    assert_eq!(Selection::parse(Some(" "), Some(","), Some("v1")), Ok(None));
    // Nothing is known of these fields.
    assert_eq!(Selection::parse(None, Some("spec.color=red"), None), Ok(None));
    assert_eq!(Selection::parse(None, Some("spec.nodename=a"), Some("v1")), Ok(None));
    assert_eq!(Selection::parse(None, Some("metadata.uid=a"), Some("example.com/v1")), Ok(None));
}

#[test]
fn a_selection_is_the_same_in_every_spelling() {
    let spellings = ["b,a=x", "a==x , b", "b,a in (x)", "a in (x,x),b,b"];
    let selections: BTreeSet<String> = spellings.iter().map(|text| format!("{:?}", parse(text).unwrap())).collect();
    assert_eq!(selections.len(), 1, "{selections:?}");
    assert_eq!(LabelSelector::parse("c notin(z,y),a in (x),b>007").unwrap().to_string(), "a=x,b>7,c notin (y,z)");
}

#[test]
fn refusals_say_why() {
    let at_limit = format!("a in ({}b)", "b,".repeat((SELECTOR_BYTES_LIMIT - "a in (b)".len()) / 2));
    assert_eq!(at_limit.len(), SELECTOR_BYTES_LIMIT);
    assert!(parse(&at_limit).is_ok());

    let cases = [
        (Some(format!("{at_limit} ")), None, ErrorKind::TooLong),
        (None, Some("a=".to_owned() + &"b".repeat(SELECTOR_BYTES_LIMIT)), ErrorKind::TooLong),
        (Some("a in b".to_owned()), None, ErrorKind::Syntax),
        (Some("a".to_owned()), Some("b".to_owned()), ErrorKind::Syntax),
    ];
    for (label, field, kind) in cases {
        let error = Selection::parse(label.as_deref(), field.as_deref(), None).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    assert_eq!(parse("a in b").unwrap_err().to_string(), "found 'b', expected '('");
    assert_eq!(parse("a=b=c").unwrap_err().to_string(), "found '=', expected ',' or the end");
    assert_eq!(parse("a>x").unwrap_err().to_string(), "'x' is not an integer");
}

#[test]
fn opaque_values_always_may_match() {
    let value = |labels: &str| {
        format!("{{\"apiVersion\":\"v1\",\"kind\":\"Shirt\",\"metadata\":{{\"labels\":{labels}}}}}").into_bytes()
    };
    let selection = parse("color=green").unwrap().unwrap();
    let cases: [(&[u8], bool); 8] = [
        (&value(r#"{"color":"green"}"#), true),
        (&value(r#"{"color":"red"}"#), false),
        (&value("{}"), false),
        (&value("null"), false),
        (&value(r#"{"color":1}"#), true),
        (&value(r#"{"color":"red"}"#)[..60], true),
        (b"k8s:enc:kms:v2:key:xxxx", true),
        (b"", true),
    ];
    for (value, expected) in cases {
        assert_eq!(selection.may_match(value), expected, "{}", value.escape_ascii());
    }
}

#[test]
fn fields_narrow_where_their_values_are_known() {
    let shirt = |version: &str, spec: &str| {
        format!(
            r#"{{"apiVersion":"{version}","kind":"Shirt","metadata":{{"name":"s","labels":{{"a":""}}}},"spec":{spec}}}"#
        )
    };
    let green = shirt("example.com/v1", r#"{"color":"green","size":3}"#);
    let table = [
        (None, "spec.color=green", &green, true),
        (None, "spec.color=red", &green, false),
        (None, "spec.color!=green", &green, false),
        (None, "spec.color!=red", &green, true),
        (None, "spec.color!=red,spec.color!=green", &green, false),
        (None, "spec.color=green,spec.size=3", &green, true),
        (None, "spec.color=green,spec.size=4", &green, false),
        (None, "spec.fit=", &green, true),
        (None, "spec.fit!=", &green, false),
        (None, "metadata.name=s", &green, true),
        (None, "metadata.name!=s", &green, false),
        (Some("a"), "spec.color=green", &green, true),
        (Some("a"), "spec.color=red", &green, false),
        (Some("b"), "spec.color=green", &green, false),
        (None, "spec.color=red", &shirt("example.com/v2", r#"{"color":"green"}"#), true),
        (None, "spec.color=red,metadata.name=t", &shirt("example.com/v2", r#"{"color":"green"}"#), false),
        (None, "spec.color=red", &shirt("example.com/v1", r#"{"color":1.5}"#), true),
        (None, "spec.color=red,spec.size=3", &shirt("example.com/v1", r#"{"color":1.5,"size":4}"#), false),
    ];
    for (label, field, value, expected) in table {
        let selection = Selection::parse(label, Some(field), Some("example.com/v1")).unwrap().unwrap();
        assert_eq!(selection.may_match(value.as_bytes()), expected, "{label:?} {field} on {value}");
    }
    for opaque in [&b""[..], b"k8s:enc:kms:v2:key:xxxx", &green.as_bytes()[..60]] {
        let selection = Selection::parse(None, Some("spec.color=red"), Some("example.com/v1")).unwrap().unwrap();
        assert!(selection.may_match(opaque), "{}", opaque.escape_ascii());
    }
}

#[test]
fn field_requirements_are_carried() {
    let selection = Selection::parse(Some("a"), Some("spec.color!=re\\,d,spec.size=M"), Some("example.com/v1"));
    let selection = selection.unwrap().unwrap();
    let fields: Vec<String> = selection.field_requirements().iter().map(ToString::to_string).collect();
    assert_eq!(fields, ["spec.color!=re\\,d", "spec.size=M"]);
    assert_eq!(selection.group_version(), Some("example.com/v1"));
}

/// A requirement as a person would write it, with what it means, said a second time.
#[derive(Debug, Clone)]
struct Model {
    key: &'static str,
    operator: &'static str,
    values: Vec<&'static str>,
    space: &'static str,
}

impl Model {
    fn text(&self) -> String {
        let Self { key, operator, values, space } = self;
        match *operator {
            "" => format!("{space}{key}{space}"),
            "!" => format!("!{space}{key}"),
            "in" | "notin" => format!("{key} {operator}{space}({space}{}{space})", values.join(",")),
            ">" | "<" => format!("{key}{space}{operator}{space}{}", values.len()),
            operator => format!("{key}{space}{operator}{space}{}", values[0]),
        }
    }

    fn holds(&self, labels: &BTreeMap<&str, &str>) -> bool {
        let value = labels.get(self.key);
        let number = value.and_then(|value| value.parse::<i128>().ok());
        let count = self.values.len() as i128;
        match self.operator {
            "" => value.is_some(),
            "!" => value.is_none(),
            "in" => self.values.iter().any(|wanted| value == Some(wanted)),
            "notin" => self.values.iter().all(|unwanted| value != Some(unwanted)),
            "=" | "==" => value == Some(&self.values[0]),
            "!=" => value != Some(&self.values[0]),
            ">" => number.is_some_and(|number| number > count),
            _ => number.is_some_and(|number| number < count),
        }
    }
}

const KEYS: [&str; 5] = ["a", "b", "example.com/a", "in", "notin"];
const VALUES: [&str; 8] = ["", "1", "02", "3", "x", "in", "notin", "a.b-c_D"];

fn requirement() -> impl Strategy<Value = Model> {
    let operator = select(vec!["", "!", "in", "notin", "=", "==", "!=", ">", "<"]);
    let values = vec(select(&VALUES[..]), 1..4);
    (select(&KEYS[..]), operator, values, select(vec!["", " ", "\t\n"]))
        .prop_map(|(key, operator, values, space)| Model { key, operator, values, space })
}

proptest! {
    #[test]
    fn matching_is_what_the_words_say(
        model in vec(requirement(), 0..4),
        labels in btree_map(select(&KEYS[..]), select(&VALUES[..]), 0..4),
    ) {
        let text = model.iter().map(Model::text).collect::<Vec<_>>().join(",");
        let selector = LabelSelector::parse(&text).unwrap();
        let expected = model.iter().all(|requirement| requirement.holds(&labels));
        let sorted: Vec<_> = labels.iter().map(|(&key, &value)| (Cow::from(key), Cow::from(value))).collect();
        prop_assert_eq!(selector.matches(&sorted), expected, "{:?} on {:?}", text, labels);
        prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
    }

    #[test]
    fn field_selectors_survive_printing(requirements in vec(("[a-z.]{1,4}", any::<bool>(), "[a-z,=!\\\\ ä]{0,6}"), 0..4)) {
        let unescaped = |(field, negated, value): (String, bool, String)| FieldRequirement { field, negated, value };
        let requirements: BTreeSet<_> =
            requirements.into_iter().map(unescaped).collect();
        let text = requirements.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let parsed = FieldSelector::parse(&text).unwrap();
        prop_assert_eq!(parsed.requirements().iter().cloned().collect::<BTreeSet<_>>(), requirements);
        prop_assert_eq!(parsed.to_string(), text);
    }

    #[test]
    fn any_text_is_survived(text in "[ab=!<>(), \\\\inot\0ä/.-]{0,24}") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
        }
        if let Ok(selector) = FieldSelector::parse(&text) {
            prop_assert_eq!(FieldSelector::parse(&selector.to_string()), Ok(selector));
        }
    }
}
