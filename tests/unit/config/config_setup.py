"""What the tests of the configuration share: a file in which much is set, and what it refers to."""

from __future__ import annotations

EVERYTHING = """
default: observe
listen:
  data: {address: "127.0.0.1:9000", hosts: [Aegis.Internal]}
  control: "[::1]:9001"
store: sqlite:///data/aegis.db
policies: [pack:read-only, ./policies, /etc/aegis/policies]
tenants:
  acme:
    agents:
      coder: {team: platform, environment: production, risk: high, trust: untrusted_external}
      tester: {token: {env: TESTER_TOKEN}, jwt: tester}
    people:
      ana: {roles: [approver, viewer], groups: platform-leads, key: {env: ANA_KEY}}
identity:
  default_agent: acme/coder
  jwt: {issuer: https://idp.acme.io, audience: tools, jwks: https://idp.acme.io/keys,
    agent_claim: azp, tenant_claim: org, run_claim: sid, leeway: 5s}
upstreams:
  github:
    url: HTTPS://API.GitHub.com:443/api/v3/
    auth: {bearer: {env: GITHUB_TOKEN}}
    timeouts: {connect: 250ms, response: 2m, idle: 1h}
    limits: {request: 64KiB, calls: 3}
    encoded_slash: true
    redirects: cdn.GitHub.com
  files: {url: "http://127.0.0.1:3001/mcp", kind: mcp, arguments: strict}
  jira:
    url: http://jira.internal:8080
    auth: {basic: {user: aegis, password: {file: jira.txt}}}
    private: true
  crm:
    url: http://localhost:9002
    auth: {header: {name: X-Api-Key, value: {env: CRM_KEY}}}
record: {arguments: digest, secrets: [pin]}
limits: {request: 2MiB, depth: 8, queue_wait: 1500ms, drain: 0s}
"""

ENVIRON = {
    "GITHUB_TOKEN": "ghp_1",
    "CRM_KEY": "key 1",
    "TESTER_TOKEN": "tester-d41d8cd98f00b204e9800998",
    "ANA_KEY": "ana-d41d8cd98f00b204e9800998ecf8",
}
