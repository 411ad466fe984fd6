-- The last version of each series that IDC no longer serves in any version.
SELECT SeriesInstanceUID, max(max_idc_version) AS last_release, arg_max(series_aws_url, max_idc_version) AS address
FROM prior_versions_index
WHERE SeriesInstanceUID NOT IN (SELECT SeriesInstanceUID FROM idc_index)
GROUP BY SeriesInstanceUID
ORDER BY last_release DESC, SeriesInstanceUID
LIMIT 10;
