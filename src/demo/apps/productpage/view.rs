//! The product page as HTML.
//!
//! Owns: every byte of markup. No script, no image, nothing fetched from another host.
//!
//! - Text that came from elsewhere passes through [`Text`], which escapes it.

use std::fmt::{self, Display, Formatter};

use http::StatusCode;
use serde_json::Value;

const STYLE: &str = include_str!("style.css");
const STARS_MAX: u64 = 5;
/// Rows of the details table: label, and the answer's field.
const DETAILS: [(&str, &str); 8] = [
    ("Author", "author"),
    ("Year", "year"),
    ("Type", "type"),
    ("Pages", "pages"),
    ("Publisher", "publisher"),
    ("Language", "language"),
    ("ISBN-10", "ISBN-10"),
    ("ISBN-13", "ISBN-13"),
];

/// All that the page shows. A service that failed leaves the status it failed with.
#[derive(Debug)]
pub(super) struct Page<'a> {
    pub(super) title: &'a str,
    pub(super) description: &'a str,
    pub(super) user: Option<&'a str>,
    pub(super) pod: &'a str,
    pub(super) details: Result<Value, StatusCode>,
    pub(super) reviews: Result<Value, StatusCode>,
}

/// The whole document.
pub(super) fn page(page: &Page<'_>) -> String {
    format!(
        "<!doctype html>\n\
         <html lang=\"en\">\n\
         <head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title} · Bookinfo</title>\n\
         <style>\n{STYLE}</style></head>\n\
         <body>\n\
         <header><div><span class=\"brand\">Bookinfo<small>on meshstore</small></span>{user}</div></header>\n\
         <main><h1>{title}</h1>\n<p class=\"lead\">{description}</p>\n\
         <div class=\"columns\">\n{details}{reviews}</div></main>\n\
         <footer>This page was put together by <span class=\"pod\">{pod}</span>. \
         Reload it to see which reviews answer.</footer>\n\
         </body>\n</html>\n",
        title = Text(page.title),
        description = Text(page.description),
        user = sign_in(page.user),
        details = section("details", "Book details", &page.details, details),
        reviews = section("reviews", "Reviews", &page.reviews, reviews),
        pod = Text(page.pod),
    )
}

fn sign_in(user: Option<&str>) -> String {
    match user {
        Some(user) => {
            format!("<form action=\"/logout\">Signed in as <b>{}</b><button>Sign out</button></form>", Text(user))
        }
        None => "<form method=\"post\" action=\"/login\">\
             <input name=\"username\" placeholder=\"jason\" aria-label=\"User name\" required>\
             <input name=\"passwd\" type=\"password\" placeholder=\"any password\" aria-label=\"Password\">\
             <button>Sign in</button></form>"
            .to_owned(),
    }
}

/// One service's part of the page; the attribute tells programs which pod answered.
fn section(service: &str, heading: &str, answer: &Result<Value, StatusCode>, body: fn(&Value) -> String) -> String {
    match answer {
        Ok(answer) => {
            let pod = Text(answer["podname"].as_str().unwrap_or("unknown"));
            let body = body(answer);
            format!(
                "<section data-service=\"{service}\" data-pod=\"{pod}\">\
                 <h2>{heading}<span class=\"pod\">{pod}</span></h2>\n{body}</section>\n"
            )
        }
        Err(status) => format!(
            "<section data-service=\"{service}\" data-failed=\"{code}\"><h2>{heading}</h2>\n\
             <p class=\"failed\">Not available right now: {service} failed with status {code}.</p></section>\n",
            code = status.as_u16(),
        ),
    }
}

fn details(answer: &Value) -> String {
    let rows = DETAILS.iter().filter_map(|(label, field)| {
        let value = match &answer[*field] {
            Value::Null => return None,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Some(format!("<dt>{label}</dt><dd>{}</dd>\n", Text(&value)))
    });
    format!("<dl>\n{}</dl>\n", rows.collect::<String>())
}

fn reviews(answer: &Value) -> String {
    let reviews = answer["reviews"].as_array().map(Vec::as_slice).unwrap_or_default();
    reviews.iter().map(review).collect()
}

fn review(review: &Value) -> String {
    format!(
        "<blockquote><p>{text}</p><cite>{reviewer}</cite>{rating}</blockquote>\n",
        text = Text(review["text"].as_str().unwrap_or_default()),
        reviewer = Text(review["reviewer"].as_str().unwrap_or_default()),
        rating = rating(&review["rating"]),
    )
}

/// v1 sends no rating, and shows none.
fn rating(rating: &Value) -> String {
    if rating.is_null() {
        return String::new();
    }
    let Some(stars) = rating["stars"].as_u64() else {
        let reason = rating["error"].as_str().unwrap_or("ratings are not available right now");
        return format!("<span class=\"missing\">{}</span>", Text(reason));
    };
    let color = if rating["color"] == "red" { "red" } else { "black" };
    let given = stars.min(STARS_MAX);
    format!(
        "<span class=\"stars\" role=\"img\" aria-label=\"{given} of {STARS_MAX} stars\">\
         <span class=\"{color}\">{}</span>{}</span>",
        "★".repeat(usize::try_from(given).unwrap_or_default()),
        "★".repeat(usize::try_from(STARS_MAX - given).unwrap_or_default()),
    )
}

/// Text from elsewhere, safe between tags and inside quoted attributes.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_fmt(format_args!("{other}"))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(details: Result<Value, StatusCode>, reviews: Result<Value, StatusCode>) -> String {
        page(&Page { title: "T", description: "D", user: Some("jason"), pod: "productpage-v1", details, reviews })
    }

    #[test]
    fn escapes_all_that_came_from_elsewhere() {
        let evil = "<script>alert('x')</script>\"&";
        let reviews = json!({ "podname": evil, "reviews": [
            { "reviewer": evil, "text": evil, "rating": { "error": evil } },
            { "reviewer": evil, "text": evil, "rating": { "stars": 3, "color": evil } },
        ]});
        let html = shown(Ok(json!({ "author": evil, "podname": evil })), Ok(reviews));
        assert!(!html.contains("<script"), "{html}");
        assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;"), "{html}");
    }

    #[test]
    fn asks_no_other_host() {
        let html = shown(Ok(json!({})), Ok(json!({})));
        assert!(!html.contains("http://") && !html.contains("https://"), "{html}");
    }

    #[test]
    fn stars_have_the_colour_of_the_version() {
        let cases = [
            (Value::Null, ""),
            (json!({ "stars": 4, "color": "black" }), "<span class=\"black\">★★★★</span>★</span>"),
            (json!({ "stars": 5, "color": "red" }), "<span class=\"red\">★★★★★</span></span>"),
            (json!({ "stars": 99, "color": "red" }), "<span class=\"red\">★★★★★</span></span>"),
            (json!({ "error": "gone" }), "<span class=\"missing\">gone</span>"),
        ];
        for (given, expected) in cases {
            assert!(rating(&given).ends_with(expected), "{given}");
        }
    }

    #[test]
    fn a_failed_service_costs_its_part_only() {
        let html = shown(Err(StatusCode::SERVICE_UNAVAILABLE), Ok(json!({ "podname": "reviews-v1", "reviews": [] })));
        assert!(html.contains("data-service=\"details\" data-failed=\"503\""), "{html}");
        assert!(html.contains("data-service=\"reviews\" data-pod=\"reviews-v1\""), "{html}");
    }
}
