"""What a role may plant that may only make functions and operators, in a schema on the search path.

Of those that are found there a server takes the one whose types fit exactly, before one of its own
that fits once something is converted, and runs it with the rights of whoever asked. Knows: for
every operator, and every function of some names, types for which the server has none of its own.
Must not know: what the statements are that are to be caught.
"""

from __future__ import annotations

from collections.abc import Iterable

import asyncpg

#: Of our columns, parameters and what comes between, and of catalogues.
TYPES = (
    "bigint", "integer", "numeric", "double precision", "text", "name", "boolean", "jsonb", "oid",
    '"char"', "character varying", "timestamp with time zone", "interval", "inet", "pg_lsn",
    "information_schema.sql_identifier", "information_schema.character_data",
)  # fmt: skip
ARRAYS = ("bigint[]", "text[]", "integer[]", "name[]", "boolean[]")
OPERATORS = ("=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "/", "||", "->>", "->")
CAUGHT = "caught in a trap"

_HELPERS = f"""
CREATE FUNCTION pg_temp.plant(called text, types text, gives text) RETURNS void
LANGUAGE plpgsql AS $p$ BEGIN
    EXECUTE format(
        'CREATE FUNCTION public.%s(%s) RETURNS %s LANGUAGE plpgsql AS '
        '$f$ BEGIN RAISE EXCEPTION ''{CAUGHT}''; END $f$', called, types, gives
    );
END $p$;
"""
_OPERATORS = """
DO $d$ DECLARE o record; one text; other text; made bigint := 0; BEGIN
    FOR o IN SELECT unnest({operators}::text[]) AS sign LOOP
        FOREACH one IN ARRAY {types}::text[] LOOP FOREACH other IN ARRAY {types}::text[] LOOP
            CONTINUE WHEN EXISTS (
                SELECT FROM pg_operator WHERE oprname = o.sign
                    AND oprleft = one::regtype AND oprright = other::regtype
            );
            made := made + 1;
            PERFORM pg_temp.plant('trap_' || made::text, one || ', ' || other, CASE
                WHEN o.sign IN ('+', '-', '*', '/') THEN one
                WHEN o.sign IN ('||', '->>', '->') THEN 'text' ELSE 'boolean' END);
            EXECUTE format(
                'CREATE OPERATOR public.%s (FUNCTION = public.%s, LEFTARG = %s, RIGHTARG = %s)',
                o.sign, 'trap_' || made::text, one, other
            );
        END LOOP; END LOOP;
    END LOOP;
END $d$
"""
_FUNCTIONS = """
DO $d$ DECLARE f record; called text; another text; place bigint; types text[]; BEGIN
    FOR f IN
        SELECT proname::text AS called, pronargs::bigint AS width, ARRAY(
            SELECT format_type(a, NULL) FROM unnest(proargtypes::oid[]) WITH ORDINALITY t (a, n)
            ORDER BY n
        ) AS types
        FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace AND proname::text = ANY({names}::text[])
            AND pronargs BETWEEN 1 AND 3
    LOOP
        FOR place IN 1 .. f.width LOOP FOREACH another IN ARRAY {types}::text[] LOOP
            types := f.types;
            types[place] := another;
            called := format('%s(%s)', f.called, array_to_string(types, ','));
            CONTINUE WHEN to_regprocedure(called) IS NOT NULL
                OR to_regprocedure('public.' || called) IS NOT NULL;
            PERFORM pg_temp.plant(f.called, array_to_string(types, ', '), 'text');
        END LOOP; END LOOP;
    END LOOP;
END $d$
"""
#: Of everything that was made since, what would run a trap.
_LEADING = """
SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) AS what,
    pg_describe_object(d.refclassid, d.refobjid, 0) AS trap
FROM pg_depend d
LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
LEFT JOIN pg_proc p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
WHERE 'public'::regnamespace IN (o.oprnamespace, p.pronamespace)
    AND d.classid <> 'pg_operator'::regclass
"""


def _array(words: Iterable[str]) -> str:
    return "ARRAY[" + ", ".join(f"$w${word}$w$" for word in words) + "]"


async def plant(low: asyncpg.Connection, names: Iterable[str]) -> None:
    """Operators of every two types, and functions of these names, that the server has none of."""
    await low.execute("SET search_path = pg_catalog")
    await low.execute(_HELPERS)
    await low.execute(_OPERATORS.format(operators=_array(OPERATORS), types=_array(TYPES)))
    await low.execute(_FUNCTIONS.format(names=_array(names), types=_array((*TYPES, *ARRAYS))))
    await low.execute("RESET search_path")


async def leading(admin: asyncpg.Connection) -> list[tuple[str, str]]:
    """What of the database would run a trap, and which."""
    await admin.execute("SET search_path = pg_catalog")
    rows = await admin.fetch(_LEADING)
    await admin.execute("RESET search_path")
    return [(row["what"], row["trap"]) for row in rows]


async def would_run(admin: asyncpg.Connection, text: str, types: Iterable[str]) -> list[str]:
    """Which traps a statement with parameters of these types would run."""
    await admin.execute(
        f"CREATE FUNCTION aegis_probe({', '.join(types)}) RETURNS void LANGUAGE sql "
        f"BEGIN ATOMIC {text}; END"
    )
    try:
        return [trap for what, trap in await leading(admin) if "aegis_probe" in what]
    finally:
        await admin.execute("DROP FUNCTION aegis_probe")
