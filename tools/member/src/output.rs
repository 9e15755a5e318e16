//! One thing a line, for people or as JSON.

use serde::Serialize;

/// Prints a value: its line for people, or `{"v":1,"kind":…,…}`.
pub fn show<T: Serialize>(json: bool, kind: &str, value: &T, line: &str) {
    if !json {
        println!("{line}");
        return;
    }
    let mut object = serde_json::json!({ "v": 1, "kind": kind });
    if let (Some(object), Ok(serde_json::Value::Object(fields))) =
        (object.as_object_mut(), serde_json::to_value(value))
    {
        object.extend(fields);
    }
    println!("{object}");
}
