//! What nodes ask each other is read back, whatever comes, and in what the first version wrote.

use proptest::prelude::*;

use super::*;

#[test]
fn questions_and_answers_are_read_back_in_both_formats() {
    let page = Listing { after: Some(Cursor("/".to_owned(), "a".to_owned())), limit: 7 };
    let question = Question::Rooms { namespace: Some("/".to_owned()), prefix: "é".to_owned(), page };
    let room = Room { namespace: "/".to_owned(), name: "é".to_owned(), members: 3 };
    let answer = Answer::Rooms(vec![room], true);
    for format in Format::ALL {
        assert_eq!(Question::decode(&question.encode(format)), Ok(question.clone()));
        assert_eq!(Answer::decode(&answer.encode(format)), Ok(answer.clone()));
    }
}

#[test]
fn a_question_of_a_later_version_is_refused_and_a_field_more_is_not() {
    let of = |json: &str| encode(Format::V2, &json);
    assert_eq!(Question::decode(&of(r#"{"weather":{}}"#)), Err(WireError::Malformed));
    assert_eq!(
        Question::decode(&of(r#"{"socket":{"id":"x","since":1}}"#)),
        Ok(Question::Socket { id: "x".to_owned() })
    );
}

#[test]
fn an_answer_to_something_else_counts_as_none() {
    let page = Listing { after: None, limit: 1 };
    let question = Question::Namespaces(page);
    let namespace = Namespace { name: "/".to_owned(), sockets: 2 };
    let answers = vec![
        Answer::Namespaces(vec![namespace.clone()], true),
        Answer::Busy,
        Answer::Namespaces(vec![namespace], false),
    ];
    let both = Namespace { name: "/".to_owned(), sockets: 4 };
    assert_eq!(question.join(answers), Answer::Namespaces(vec![both], true));
}

#[test]
fn the_busiest_rooms_are_told_by_whoever_knows_most_of_them_and_counted_by_all() {
    let room = |name: &str, members| Room { namespace: "/".to_owned(), name: name.to_owned(), members };
    let question = Question::BusiestRooms { namespace: None, prefix: String::new(), limit: 2 };
    let told = vec![vec![room("a", 7), room("b", 5)], vec![room("c", 9), room("a", 6)], Vec::new()];
    let joined = question.join(told.into_iter().map(Answer::BusiestRooms).collect());
    assert_eq!(joined, Answer::BusiestRooms(vec![room("c", 9), room("a", 7)]));
    let question = Question::RoomCounts(Vec::new());
    let counted = vec![vec![room("a", 1), room("c", 2)], vec![room("a", 2)]];
    let joined = question.join(counted.into_iter().map(Answer::RoomCounts).collect());
    assert_eq!(joined, Answer::RoomCounts(vec![room("a", 3), room("c", 2)]));
}

#[test]
fn what_the_first_version_wrote_is_read() {
    let of = |json: &str| encode(Format::V2, &json);
    let page = r#"{"after":["a",""],"limit":2}"#;
    for question in [
        r#""node""#.to_owned(),
        r#""rates""#.to_owned(),
        r#""drain""#.to_owned(),
        format!(r#"{{"namespaces":{page}}}"#),
        format!(r#"{{"rooms":{{"namespace":null,"prefix":"","page":{page}}}}}"#),
        format!(r#"{{"members":{{"namespace":"/","room":"r","page":{page}}}}}"#),
        format!(
            r#"{{"sockets":{{"filter":{{"namespace":null,"room":"r","subject":null,"address":"::1"}},"page":{page}}}}}"#
        ),
        r#"{"socket":{"id":"x"}}"#.to_owned(),
        format!(r#"{{"peers":{{"key":null,"prefix":"","page":{page}}}}}"#),
        r#"{"act":{"audience":{"namespace":"/","rooms":[],"sockets":[],"subjects":[],"everyone":true,"except":[]},"act":{"emit":{"event":"e","args":"[]","volatile":false,"ack_timeout":null}}}}"#.to_owned(),
        r#"{"act":{"audience":{"namespace":"/","rooms":[],"sockets":[],"subjects":[],"everyone":true,"except":[]},"act":{"join":{"rooms":["r"],"profile":"{}"}}}}"#.to_owned(),
        r#"{"peer":{"key":null,"id":"x","order":{"message":"{}"}}}"#.to_owned(),
        r#"{"outcome":{"key":"k"}}"#.to_owned(),
    ] {
        assert!(Question::decode(&of(&question)).is_ok(), "{question}");
    }
    for answer in [
        r#"{"nodes":[{"id":"1","name":"n","version":"0.1.0","status":"online","startedAt":1,"shards":2,"pollingClients":0,"websocketClients":0,"peers":0,"heldBytes":0,"waitingBytes":0,"memoryBudget":1}]}"#,
        r#"{"rates":[{"node":"1","rates":{"seconds":1.0,"connects":0.0,"disconnects":0.0,"receivedMessages":0.0,"receivedBytes":0.0,"sentMessages":0.0,"sentBytes":0.0}}]}"#,
        r#"{"namespaces":[[{"name":"/","sockets":1}],false]}"#,
        r#"{"rooms":[[{"namespace":"/","name":"r","members":1}],true]}"#,
        r#"{"members":[[{"id":"x","node":"1","profile":{"a":[1]}}],true]}"#,
        r#"{"sockets":[[{"id":"x","namespace":"/","node":"1","transport":"websocket","rooms":1,"waitingBytes":0,"connectedAt":1}],false]}"#,
        r#"{"socket":[{"id":"x","namespace":"/","node":"1","transport":"polling","rooms":1,"waitingBytes":0,"connectedAt":1,"shard":0,"isMoving":false,"pendingAcks":0,"memberships":[{"room":"r","profile":null}]}]}"#,
        r#"{"peers":[[{"id":"x","key":"peerjs","node":"1","waitingBytes":0,"connectedAt":1}],false]}"#,
        r#"{"done":[[{"node":"1","matched":1,"done":1}],[{"socket":"x","args":[1]}]]}"#,
        r#"{"outcomes":["new",{"done":"x"}]}"#,
        r#""too-many""#,
        r#""busy""#,
    ] {
        assert!(Answer::decode(&of(answer)).is_ok(), "{answer}");
    }
}

proptest! {
    #[test]
    fn any_bytes_of_a_node_are_read_or_refused(bytes: Vec<u8>, is_ours: bool) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut().filter(|_| is_ours) {
            *first = Format::V2.byte();
        }
        let _ = (Question::decode(&bytes), Answer::decode(&bytes));
    }
}
