-- name: engine_settings
-- What decides the cost of a commit, as the writer's own connection has it: name and value. Every
-- engine keeps its settings in its own place.
SELECT 'synchronous',
    CASE synchronous WHEN 0 THEN 'off' WHEN 1 THEN 'normal' WHEN 2 THEN 'full' ELSE 'extra' END
FROM pragma_synchronous
UNION ALL SELECT 'journal_mode', journal_mode FROM pragma_journal_mode
UNION ALL SELECT 'page_size', CAST(page_size AS TEXT) FROM pragma_page_size
UNION ALL SELECT 'cache_size', CAST(cache_size AS TEXT) FROM pragma_cache_size;
