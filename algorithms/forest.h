#ifndef RGM_FOREST_H
#define RGM_FOREST_H
typedef struct forest_data forest_data;
#endif
