//! Each namespace of a session has a principal of its own, which its handlers see: a token shown in one changes nothing in another.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use signalbox_auth::{Authenticator, GrantsSpec, HmacSecret, Issuer, Key, Mint, Mode, Now, Settings};
use signalbox_node::{
    App, Args, Config, Cors, Metrics, Namespace, Node, Serve,
    app::vocabulary,
    bind,
    policy::{TokenPolicy, WithoutRedis},
};

const SECRET: &str = "a secret of the tests, of more than 32 bytes";

fn token(subject: &str, namespaces: &[&str], rooms: &[&str]) -> String {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    let mut spec = GrantsSpec { namespaces: texts(namespaces), ..GrantsSpec::default() };
    spec.rooms.join = texts(rooms);
    let mut mint = Mint::new(subject);
    mint.grants = Some(spec);
    mint.sign(&HmacSecret::new(SECRET).unwrap(), Now::read().unix).unwrap()
}

/// The built-in vocabulary, and an event by which clients ask who they are.
fn namespace(name: &str) -> Namespace {
    let who = Namespace::named(name).on("who", async |_, event| {
        let subject = event.principal().map(|principal| principal.subject.to_string());
        event.ack(Args::new((subject,)).unwrap());
    });
    vocabulary::actions().into_iter().fold(who, |namespace, (event, action)| namespace.act(event, action))
}

fn serve() -> SocketAddr {
    let (ready, is_ready) = mpsc::channel();
    thread::spawn(move || {
        let key = Key::hmac(&HmacSecret::new(SECRET).unwrap()).unwrap();
        let issuer = Issuer { keys: vec![key], ..Issuer::default() };
        let settings = Settings { mode: Mode::Required, issuers: vec![issuer], ..Settings::default() };
        let policy = TokenPolicy::new(Authenticator::new(settings).unwrap(), None, WithoutRedis::Allow);
        let app = App::new().namespace(namespace("/")).namespace(namespace("/other"));
        actix_rt::System::new().block_on(async {
            let listener = bind("127.0.0.1", 0).unwrap();
            ready.send(listener.local_addr().unwrap()).unwrap();
            let node = Node::with_policy(Config::default(), app, Metrics::new(), Arc::new(policy));
            node.serve(Serve { listener, cors: Cors::Any, tls: None }, |_| {}).unwrap().await.unwrap();
        });
    });
    is_ready.recv().unwrap()
}

struct Client(TcpStream);

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let request = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut client = Self(stream);
        // The head ends in an empty line; then the first message comes.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.bytes::<1>()[0]);
        }
        assert!(client.next().starts_with("0{\"sid\""));
        client
    }

    /// The next message; `None` where the connection is closed.
    fn next_or_end(&mut self) -> Option<String> {
        let mut first = [0; 1];
        self.0.peek(&mut first).ok().filter(|read| *read == 1 && first == [0x81])?;
        Some(self.next())
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// The next message, which is short.
    fn next(&mut self) -> String {
        let len = match self.bytes::<2>() {
            [0x81, 126] => usize::from(u16::from_be_bytes(self.bytes())),
            [0x81, len @ ..=125] => usize::from(len),
            other => panic!("no message: {other:?}"),
        };
        let mut text = vec![0; len];
        self.0.read_exact(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn send(&mut self, text: &str) {
        let len = u16::try_from(text.len()).unwrap().to_be_bytes();
        self.0.write_all(&[&[0x81, 0x80 | 126][..], &len, &[0; 4], text.as_bytes()].concat()).unwrap();
    }

    /// Sends something, and gives back the answer to it.
    fn ask(&mut self, text: &str) -> String {
        self.send(text);
        self.next()
    }
}

#[test]
fn each_namespace_has_a_principal_of_its_own() {
    let alice = token("alice", &["/"], &["of-alice"]);
    let bob = token("bob", &["/other"], &["of-bob"]);
    let mut client = Client::connect(serve());

    // A token is for the namespaces that it grants.
    let refused = client.ask(&format!("40/other,{{\"token\":\"{alice}\"}}"));
    assert!(refused.starts_with("44/other,") && refused.contains("namespace-forbidden"), "{refused}");
    assert!(client.ask(&format!("40{{\"token\":\"{alice}\"}}")).starts_with("40{"));
    assert!(client.ask(&format!("40/other,{{\"token\":\"{bob}\"}}")).starts_with("40/other,{"));
    let who = |client: &mut Client| (client.ask("421[\"who\"]"), client.ask("42/other,2[\"who\"]"));
    let both = ("431[\"alice\"]".to_owned(), "43/other,2[\"bob\"]".to_owned());
    assert_eq!(who(&mut client), both);

    let forbidden = "[{\"ok\":false,\"error\":\"join-forbidden\"}]";
    assert_eq!(client.ask("423[\"join\",\"of-bob\"]"), format!("433{forbidden}"));
    assert_eq!(client.ask("42/other,4[\"join\",\"of-alice\"]"), format!("43/other,4{forbidden}"));
    assert!(client.ask("425[\"join\",\"of-alice\"]").starts_with("435[{\"ok\":true"));
    assert!(client.ask("42/other,6[\"join\",\"of-bob\"]").starts_with("43/other,6[{\"ok\":true"));

    // A new token counts where it is shown, and for its own subject.
    let roomy = token("alice", &["/"], &["*"]);
    let changed = "[{\"ok\":false,\"error\":\"subject-changed\"}]";
    assert_eq!(
        client.ask(&format!("42/other,7[\"auth:refresh\",\"{roomy}\"]")),
        format!("43/other,7{changed}")
    );
    assert_eq!(client.ask(&format!("428[\"auth:refresh\",\"{roomy}\"]")), "438[{\"ok\":true}]");
    assert_eq!(client.ask("42/other,9[\"join\",\"of-alice\"]"), format!("43/other,9{forbidden}"));
    assert!(client.ask("4210[\"join\",\"anywhere\"]").starts_with("4310[{\"ok\":true"));
    assert_eq!(who(&mut client), both);
}

/// What a client is told that shows a token again and again; it ends where the connection does.
fn answers(client: &mut Client, count: usize, text: impl Fn(usize) -> String) -> Vec<String> {
    let mut answers = Vec::new();
    for number in 0..count {
        client.send(&text(number));
        // What closes an Engine.IO session is no answer.
        match client.next_or_end().filter(|text| text != "1") {
            Some(answer) => answers.push(answer),
            None => break,
        }
    }
    answers
}

#[test]
fn bad_tokens_end_the_connection() {
    let address = serve();
    let forged = format!("{}x", token("alice", &["/"], &[]));
    let connect = format!("40{{\"token\":\"{forged}\"}}");
    let mut client = Client::connect(address);
    let told = answers(&mut client, 100, |_| connect.clone());
    assert_eq!(told.len(), 16, "{told:?}");
    assert!(told.iter().all(|told| told.starts_with("44{") && !told.contains("rate-limited")), "{told:?}");

    // By a refresh too; and a good one shows that somebody has only been slow.
    let good = token("alice", &["/"], &[]);
    let mut client = Client::connect(address);
    for _ in 0..3 {
        let told = answers(&mut client, 15, |_| connect.clone());
        assert_eq!(told.len(), 15, "{told:?}");
        assert!(client.ask(&format!("40{{\"token\":\"{good}\"}}")).starts_with("40{"));
        client.send("41");
    }
    assert!(client.ask(&format!("40{{\"token\":\"{good}\"}}")).starts_with("40{"));
    let told = answers(&mut client, 100, |number| format!("42{number}[\"auth:refresh\",\"{forged}\"]"));
    assert_eq!(told.len(), 16, "{told:?}");
    assert!(told.iter().all(|told| told.contains("\"error\":\"")), "{told:?}");
}

#[test]
fn a_connection_has_so_many_tokens_judged() {
    let address = serve();
    let tokens = [token("alice", &["/"], &["a"]), token("alice", &["/"], &["b"])];
    let mut client = Client::connect(address);
    assert!(client.ask(&format!("40{{\"token\":\"{}\"}}", tokens[0])).starts_with("40{"));
    let began = Instant::now();
    let told = answers(&mut client, 150, |number| {
        format!("42{number}[\"auth:refresh\",\"{}\"]", tokens[number % 2])
    });
    let is_good = |told: &&String| told.ends_with("[{\"ok\":true}]");
    let is_late = |told: &&String| told.contains("\"error\":\"rate-limited\",\"retryAfter\":");
    let (good, late) = (told.iter().filter(is_good).count(), told.iter().filter(is_late).count());
    // Seventy at once, less the one of the namespace, and seven in each second since.
    let most = 69 + 7 * (began.elapsed().as_secs() as usize + 1);
    assert!((69..=most).contains(&good), "{good} of {most}");
    assert_eq!(good + late, told.len(), "{told:?}");

    // Whoever shows none asks as often as it likes, and whoever asks for a namespace is told when to ask again.
    let mut other = Client::connect(address);
    let told = answers(&mut other, 150, |_| "40".to_owned());
    assert_eq!(told.len(), 150);
    let connect = format!("40/other,{{\"token\":\"{}\"}}", tokens[0]);
    let told = answers(&mut other, 150, |_| connect.clone());
    assert!(told[0].contains("namespace-forbidden"), "{told:?}");
    assert!(told.last().is_some_and(|told| told.contains("\"code\":\"rate-limited\",\"retryAfter\":")));
}
