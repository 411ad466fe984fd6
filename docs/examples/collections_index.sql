-- Collections of breast cancer, with the licences of their datasets.
SELECT DISTINCT collection_id, subjects, source.source_doi, source.license.license_short_name
FROM (SELECT *, unnest(sources) AS source FROM collections_index)
WHERE cancer_types LIKE '%Breast%'
ORDER BY ALL;
