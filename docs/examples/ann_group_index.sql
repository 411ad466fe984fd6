-- What is annotated on slides, and how often.
SELECT AnnotationPropertyType_CodeMeaning, GraphicType, sum(NumberOfAnnotations) AS annotations
FROM ann_group_index
GROUP BY ALL
ORDER BY annotations DESC, 1, 2;
