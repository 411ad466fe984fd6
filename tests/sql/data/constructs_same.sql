SELECT COUNT(*) AS k, COUNT(n) AS m, COUNT(DISTINCT s) AS p, SUM(n) AS q, SUM(DISTINCT n) AS v FROM `t`;
SELECT SUM(IF(b, 1, 0)) AS k, MAX(IF(b, 1, 0)) AS m, MIN(3000000000) AS p FROM `t`;
SELECT MIN(r) AS k, MAX(r) AS m, MIN(d) AS p, MAX(b) AS q, MAX(rec.c) AS v FROM `t`;
SELECT id, 1 AS k, TRUE AS m, 'x' AS p, [1, 2] AS v FROM `t` ORDER BY id;
SELECT id, n - 1 AS k, -n AS m, n * id AS p, -9223372036854775808 AS q FROM `t` ORDER BY id;
SELECT id, 0.1 + 0.2 AS k, n * 0.1 AS m, 1e-3 AS p, .5 AS q, 5. AS v, [0.1] AS w, 12345678901234567.9 AS x FROM `t`
  ORDER BY id;
SELECT id, IF(b, 1, 0.5) AS k, COALESCE(n, 0.5) AS m, ns[SAFE_OFFSET(0)] + 0.5 AS p FROM `t` ORDER BY id;
SELECT id, n / 7 AS k, n / 2.5 AS m, f / 0.5 AS p, (n + 1) / 1e3 AS q FROM `t` WHERE id != 4 ORDER BY id;
SELECT id, ROUND(f, 2) AS k, ROUND(n / 8, 2) AS m, ROUND(0.615, 2) AS p, ROUND(f, 0) AS q FROM `t` ORDER BY id;
SELECT id, ROUND(1.115, 2) AS k, ROUND(-0.125, 2) AS m, ROUND(1.0000005, 6) AS p, ROUND(g, 1) AS q FROM `t` ORDER BY
  id;
SELECT id, ROUND(ROUND(f / 3, 3), 1) AS k, ROUND(ns[SAFE_OFFSET(1)] / 3, 2) AS m FROM `t` ORDER BY id;
SELECT id, ROUND((SELECT MAX(v) FROM UNNEST(ns) AS v) / 3, 2) AS k, ROUND(IF('q' IN UNNEST(xs), 2.675, f), 2) AS m
  FROM `t` ORDER BY id;
SELECT b, ROUND(SUM(n) / 7, 3) AS k FROM `t` GROUP BY b ORDER BY b;
SELECT MIN(f) AS k, MIN(g) AS m, MIN(n / 8) AS p FROM `t`;
SELECT id, SAFE_CAST(xs[SAFE_OFFSET(0)] AS FLOAT64) AS k, SAFE_CAST(CONCAT(' -', r, '1e2 ') AS FLOAT64) AS m FROM
  `t` ORDER BY id;
SELECT id, SAFE_CAST(REGEXP_EXTRACT(CONCAT(' +0', s), r'^ *[-+]?[0-9]+ *$') AS INT64) AS k FROM `t` ORDER BY id;
SELECT id, CAST(tm AS STRING) AS k, CAST(d AS STRING) AS m FROM `t` ORDER BY id;
SELECT id, ARRAY_TO_STRING(xs, ',') AS k, NULLIF(ARRAY_TO_STRING(xs, ''), '') AS m FROM `t` ORDER BY id;
SELECT b, ARRAY_AGG(s IGNORE NULLS ORDER BY id DESC) AS k, ARRAY_AGG(DISTINCT s IGNORE NULLS ORDER BY s) AS m FROM
  `t` GROUP BY b ORDER BY b;
SELECT ARRAY_AGG(rec IGNORE NULLS ORDER BY id) AS k, ARRAY_AGG(n IGNORE NULLS ORDER BY s, id)[SAFE_OFFSET(0)] AS m
  FROM `t`;
SELECT id, ROW_NUMBER() OVER (PARTITION BY b ORDER BY s DESC, id) AS k FROM `t` ORDER BY id;
SELECT id, CAST(REPLACE('idc_v4', 'idc_v', '') AS INT64) AS k FROM `t` ORDER BY id;
SELECT id, '\x41\u00e9\101\U0001f600\n\\ \' "' AS k, "it's \"" AS m, '''a'b''' AS p FROM `t` ORDER BY id;
SELECT id, CONCAT(s, r, 'x') AS k, CONCAT(s) AS m, CONCAT('it\'s', s) AS p FROM `t` ORDER BY id;
SELECT id, REPLACE(r, ',', '') AS k, REPLACE(r, '', 'x') AS m, REPLACE(r, s, 'x') AS p FROM `t` ORDER BY id;
SELECT id, SPLIT(r, ',') AS k, SPLIT(s) AS m, SPLIT(r, '')[SAFE_OFFSET(1)] AS p, SPLIT(rec.a, ',') AS q FROM `t`
  ORDER BY id;
SELECT id, COALESCE(rec.a, s, 'none') AS k, IFNULL(n, 5) AS m, NULLIF(s, '') AS p, IF(b, s, r) AS q FROM `t` ORDER
  BY id;
SELECT id, CASE WHEN n > 2 THEN 'big' WHEN n < 0 THEN 'negative' END AS k, CASE s WHEN 'b' THEN r ELSE s END AS m
  FROM `t` ORDER BY id;
SELECT id, n BETWEEN -1 AND 3 AS k, s NOT IN ('b', 'c') AS m, n IN (3, NULL) AS p, s < r AS q, r >= 'b' AS v FROM
  `t` ORDER BY id;
SELECT id, b IS TRUE AS k, b IS NOT FALSE AS m, NOT b AS p, b AND n IS NULL AS q, b OR s IS NOT NULL AS v FROM `t`
  ORDER BY id;
SELECT id, d = '2020-1-2' AS k, d > '2020-01-01' AS m, d IS NULL AS p FROM `t` ORDER BY id;
SELECT n FROM `t` ORDER BY n, id;
SELECT r FROM `t` ORDER BY r DESC;
SELECT s, id FROM `t` ORDER BY s DESC, id DESC;
SELECT id FROM `t` ORDER BY n NULLS LAST, s DESC NULLS FIRST, id;
SELECT -id AS id FROM `t` ORDER BY id;
SELECT DISTINCT n, b FROM `t` ORDER BY n, b;
SELECT COALESCE(s, 'b') AS s, COUNT(*) AS k FROM `t` GROUP BY 1 ORDER BY s;
SELECT n + 1 AS k, COUNT(*) AS m FROM `t` GROUP BY n + 1 HAVING COUNT(*) > 1 ORDER BY k;
SELECT n, SUM(id) AS k FROM `t` GROUP BY ALL HAVING SUM(id) > 1 ORDER BY n;
SELECT STRING_AGG(DISTINCT s, ',' ORDER BY s) AS k, STRING_AGG(DISTINCT CAST(n AS STRING), '' ORDER BY CAST(n AS
  STRING)) AS m FROM `t`;
SELECT STRING_AGG(DISTINCT s ORDER BY s) AS k, STRING_AGG(DISTINCT s, '\\' ORDER BY s DESC) AS m, STRING_AGG(s,
  'it\'s' ORDER BY id) AS p FROM `t`;
SELECT STRING_AGG(DISTINCT xs[SAFE_OFFSET(0)], '|' ORDER BY xs[SAFE_OFFSET(0)]) AS k, STRING_AGG(DISTINCT rec.a, ''
  ORDER BY rec.a) AS m FROM `t`;
SELECT STRING_AGG(DISTINCT s, ',' ORDER BY s) AS k FROM `t` WHERE s IS NULL;
SELECT id, (SELECT STRING_AGG(DISTINCT x, ',' ORDER BY x) FROM UNNEST(xs) AS x) AS k FROM `t` ORDER BY id;
SELECT id, xs[SAFE_OFFSET(0)] AS k, xs[SAFE_ORDINAL(1)] AS m, recs[SAFE_OFFSET(0)].deep[SAFE_OFFSET(0)].z AS p FROM
  `t` ORDER BY id;
SELECT id, xs AS k, ns AS m, rec AS p, recs AS q FROM `t` ORDER BY id;
SELECT id, xs IS NULL AS k, 'q' IN UNNEST(xs) AS m, n IN UNNEST(ns) AS p FROM `t` ORDER BY id;
SELECT id, EXISTS(SELECT 1 FROM UNNEST(xs) AS x WHERE x = 'q') AS k, (SELECT COUNT(v.a) FROM UNNEST(recs) AS v) AS m
  FROM `t` ORDER BY id;
SELECT id, ARRAY(SELECT AS STRUCT e.a, -e.c AS c, e.deep FROM UNNEST(recs) AS e WITH OFFSET AS p ORDER BY p DESC) AS
  k FROM `t` ORDER BY id;
SELECT id, (SELECT AS STRUCT v.a, v.c FROM UNNEST(recs) AS v WHERE v.c = 1) AS k FROM `t` ORDER BY id;
SELECT id, e.a FROM `t`, UNNEST(recs) AS e WITH OFFSET AS p ORDER BY id, p;
SELECT id, e.c, p.z FROM `t` AS q, q.recs AS e LEFT JOIN UNNEST(e.deep) AS p ORDER BY id, c, z;
SELECT id, e FROM `t` LEFT JOIN UNNEST(ns) AS e ON e > 1 ORDER BY id, e;
SELECT id, (SELECT MIN(v.z) FROM UNNEST(recs) AS w, UNNEST(w.deep) AS v) AS k, (SELECT MIN(v.a) FROM UNNEST(recs) AS
  v) AS m FROM `t` ORDER BY id;
SELECT id, w, n FROM `t` FULL JOIN `o` USING (id) ORDER BY id, w;
SELECT a.id, z.w FROM `t` AS a LEFT JOIN `o` AS z ON a.id = z.id AND z.w IS NOT NULL ORDER BY id, w;
SELECT a.id, z.w FROM `t` AS a CROSS JOIN `o` AS z WHERE a.id >= z.id ORDER BY id, w;
SELECT id, n IN (SELECT o.id FROM `o` AS o) AS k, n NOT IN (SELECT o.id FROM `o` AS o) AS m FROM `t` ORDER BY id;
SELECT id, (SELECT COUNT(*) FROM `o` AS o WHERE o.id = a.id) AS k FROM `t` AS a WHERE NOT EXISTS (SELECT 1 FROM `o`
  AS o WHERE o.id > a.n) ORDER BY id;
WITH p AS (SELECT id, n FROM `t`), q AS (SELECT id FROM p WHERE n = 3) SELECT q.id, p.n FROM q LEFT JOIN p ON p.id =
  q.id ORDER BY id;
SELECT n FROM `t` UNION ALL SELECT id FROM `t` UNION ALL SELECT NULL ORDER BY n;
SELECT s FROM `t` UNION DISTINCT SELECT r FROM `t` ORDER BY s;
SELECT * EXCEPT (w) FROM (SELECT id, w FROM `o`) ORDER BY id;
SELECT id AS `order`, s AS `column`, r AS `values`, b AS `end`, n AS `desc`, d AS `references` FROM `t` ORDER BY
  `order`;
WITH `group` AS (SELECT id AS `limit` FROM `t`) SELECT `group`.`limit` FROM `group` ORDER BY `limit`;
SELECT id, CASE WHEN id > 9 THEN ERROR('never') ELSE 'x' END AS k, COALESCE(r, ERROR(s)) AS m FROM `t` ORDER BY id;
SELECT f, id FROM `t` ORDER BY f DESC, id;
SELECT id, SQRT(id) AS k, SQRT(IF(f < 0, NULL, f)) AS m, SQRT(IF(g < 0, 0, g)) AS p FROM `t` ORDER BY id;
SELECT id, SQRT(IF(IS_NAN(g), g, NULL)) AS k, SQRT(NULL) AS m FROM `t` ORDER BY id;
SELECT id, ROUND(ACOS(IF(f <= 1, f, NULL)), 6) AS k, ROUND(ACOS(-1), 6) AS m FROM `t` ORDER BY id;
SELECT id, ROUND(CASE WHEN f < 1 THEN ACOS(f) END * 57.29577951308232, 6) AS k FROM `t` ORDER BY id;
SELECT id, ROUND(ACOS(IF(IS_NAN(f), f, NULL)), 6) AS k FROM `t` ORDER BY id;
SELECT id, GREATEST(n, id) AS k, GREATEST(f, g) AS m, GREATEST(s, r) AS p, GREATEST(d) AS q FROM `t` ORDER BY id;
SELECT id, GREATEST(n, 0.5) AS k, GREATEST(f, NULL) AS m, GREATEST(f, -f, g, -g) AS p FROM `t` ORDER BY id;
SELECT id, GREATEST(b, id = 2) AS k, GREATEST(CAST(tm AS STRING), s) AS m FROM `t` ORDER BY id;
SELECT id, s LIKE 'b%' AS k, s LIKE '_' AS m, r LIKE '%,%' AS p, s NOT LIKE '%b' AS q FROM `t` ORDER BY id;
SELECT id, s LIKE '' AS k, s LIKE '%' AS m, r LIKE '_b' AS p, s LIKE 'ab_c' AS q FROM `t` ORDER BY id;
SELECT id, ARRAY_TO_STRING(xs, '/') LIKE '%q%' AS k, s LIKE 'it\'s' AS m FROM `t` ORDER BY id;
SELECT n, LAG(n) OVER (ORDER BY n) AS k FROM `t` ORDER BY n, k;
SELECT s, LAG(s) OVER (PARTITION BY b ORDER BY s) AS k FROM `t` ORDER BY s, k;
SELECT b, f, f - LAG(f) OVER (PARTITION BY b ORDER BY f) AS k FROM `t` WHERE id < 4 ORDER BY b, f;
SELECT id, IS_NAN(f - f) AS k, NOT IS_NAN(g) AS m, IS_NAN(n) AS p, IS_NAN(NULL) AS q, IS_NAN(f) IS NULL AS v FROM `t`
  ORDER BY id;
SELECT id, f = 0 AS k, f < 0 AS m, f = -0.0 AS p, f = 9007199254740993 AS q, n = 9007199254740992.0 AS v FROM `t`
  ORDER BY id;
SELECT id, n <= 0.5 AS k, n IN (3.0, 7) AS m, n IN (f, g) AS p, CASE n WHEN f THEN 'f' WHEN g THEN 'g' END AS q FROM
  `t` ORDER BY id;
SELECT id, NULLIF(g, -1e308) AS k, NULLIF(rec.x, 0.5) AS m, n / NULLIF(f, 0) AS p, (n - 1) / NULLIF(id - 1, 0) AS q
  FROM `t` ORDER BY id;
SELECT id, v.a, v.x, IS_NAN(v.x) AS k FROM `t`, UNNEST(recs) AS v WHERE NOT v.x <= 1 ORDER BY id, a;
SELECT id, EXISTS(SELECT 1 FROM UNNEST(recs) AS v WHERE 'z' IN UNNEST(v.ws)) AS k, r IN UNNEST(SPLIT(r, ',')) AS m
  FROM `t` ORDER BY id;
SELECT b, ARRAY_AGG(DISTINCT g IGNORE NULLS ORDER BY g) AS k, ARRAY_AGG(DISTINCT n / 8 IGNORE NULLS ORDER BY n / 8) AS
  m FROM `t` GROUP BY b ORDER BY b;
SELECT b, MAX(rec.x) AS k, MAX(IF(f <= 1, f, NULL)) AS m, MAX(n / 8) AS p, MAX(g) - MIN(g) AS q FROM `t` WHERE id != 4
  GROUP BY b ORDER BY b;
SELECT f, LAG(f) OVER (ORDER BY f) AS k FROM `t` ORDER BY f;
SELECT d, LAG(d) OVER (ORDER BY d) AS k FROM `t` ORDER BY d, k;
WITH q AS (SELECT id, IF(id > 9, ERROR('x'), s) AS x, SQRT(id) AS y FROM `t`) SELECT id, ROW_NUMBER() OVER (PARTITION
  BY x ORDER BY id) AS k, LAG(y) OVER (ORDER BY y) AS m FROM q ORDER BY id;
SELECT ARRAY_AGG(DISTINCT SQRT(id) IGNORE NULLS ORDER BY SQRT(id)) AS k, COUNT(DISTINCT SQRT(id)) AS m FROM `t`;
SELECT id, 0.25 >= 0.25 AS a, 1 > 0.5 AS b, -0.5 > -0.5 AS c, 0.5 < n AS d, 0.5 <= n AS e, n >= 0.5 AS g FROM `t` ORDER BY id;
SELECT a.id, a.xs AS k, ARRAY_LENGTH(a.ns) AS m, v.a AS p FROM `t` AS a LEFT JOIN UNNEST(a.recs) AS v ORDER BY id, p;
WITH q AS (SELECT id, xs, IF(id > 2, ns, NULL) AS ns FROM `t`) SELECT id, xs IS NULL AS k, ns IS NULL AS m,
  NULLIF(ARRAY_TO_STRING(xs, '/'), '') AS p FROM q ORDER BY id
