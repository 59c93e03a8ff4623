"""The catalogues and policies that let secrets get as far as they can.

Knows: rules whose reasons, conditions, limits and obligations take up what requests hold.
Must not know: which requests there are.
"""

from __future__ import annotations

CATALOGUES = {
    "open.yaml": """\
catalogue: open
tools:
  any: POST /any
  nothing: POST /nothing
  limited: POST /limited
  over: POST /over
  spent: POST /spent
  told: POST /told
  told_path: GET /told/{token}
  lookup: POST /lookup
  masked: POST /masked
  masked_told: POST /masked-told
  masked_over: POST /masked-over
  masked_spent: POST /masked-spent
  search: GET /search
  reset: GET /reset/{token}
  hook: "GET /hook/{secret}.json"
  files: "GET /files/{password...}"
  pin: {route: "GET /pin/{token}", args: {token: number}}
  typed: {route: POST /typed, args: {token: int}}
  typed_query: {route: GET /typed, args: {token: int}}
  typed_path: {route: "GET /typed/{token}", args: {token: int}}
  answer: GET /answer/{kind}
  answer_to: POST /answer/{kind}
""",
    "tools.yaml": "catalogue: tools\n"
    "tools: {add: {}, told: {}, masked: {}, typed: {args: {token: int}}}\n",
    "asks.yaml": "catalogue: asks\n"
    "tools: {any: {}, told: {}, waits: {}, masked: {}, spent: {}, typed: {args: {token: int}}}\n",
    "shop.yaml": 'catalogue: shop\ntools: {items: GET /items, answer: "GET /answer/{kind}"}\n',
    "bank.yaml": 'catalogue: bank\ntools: {answer: "GET /answer/{kind}"}\n',
    "keyed.yaml": 'catalogue: keyed\ntools: {answer: "GET /answer/{kind}"}\n',
    "gone.yaml": "catalogue: gone\ntools: {any: POST /any}\n",
}

RULES = """\
policy: canary
constants: {table: {a: 1}}
rules:
  - id: allowed
    effect: allow
    tools: [open/*, tools/*, "tools/mcp:prompts/get", shop/*, bank/*, keyed/*, gone/*, asks/*]
    except: open/nothing
  - id: told
    effect: deny
    tools: [open/told, open/told_path, tools/told, asks/told]
    reason: "{args.password} {args.apiKey} {args.user} {args.user.api-key} {args}
      {http.query} {http.path}"
  - {id: by-key, tools: open/lookup, effect: allow, when: 'constants.table[args.token] == 1'}
  - id: by-address
    tools: open/lookup
    effect: deny
    when: cidr("10.0.0.0/8").containsIP(args.token)
  - id: by-host
    tools: open/lookup
    effect: deny
    when: host("http://" + args.token + ".1/") == "x"
  - {id: by-number, tools: open/lookup, effect: deny, when: '[1, 2][args.token] == 1'}
  - id: by-own-key
    mode: shadow
    tools: open/lookup
    effect: deny
    when: args[string(args.token)] == 1
  - {id: limited, tools: open/limited, limits: {per: args.token, max: 5, window: 1h}}
  - {id: over, tools: open/over, limits: {max: 1, window: 8000h}, reason: "{args} is over"}
  - id: waits
    tools: asks/waits
    effect: require_approval
    reason: "{args.password} {args.card} {args}"
  - id: spent
    tools: [open/spent, asks/spent]
    limits: {max: 1, window: 8000h, shared: true}
    reason: "{args} is over"
  - id: over-masked
    tools: open/masked_over
    limits: {max: 1, window: 8000h}
    reason: "{args.card} is over"
  - id: spent-masked
    tools: open/masked_spent
    limits: {max: 1, window: 8000h, shared: true}
    reason: "{args.note} is over"
  - id: masked-told
    tools: open/masked_told
    effect: deny
    reason: "{args.card} {args.note} {args}"
"""

#: Left out where it is shown that the search finds what they would have kept.
OBLIGATIONS = """\
  - id: masked
    tools: [open/masked*, tools/masked, asks/masked, asks/waits]
    obligations:
      redact:
        request: [args.card, args.customer.tax, card_number, iban, api_key, private_key, email]
  - id: answers
    tools: open/answer
    obligations:
      redact: {response: [body.customer.tax, card_number, iban, api_key, private_key, email]}
"""
